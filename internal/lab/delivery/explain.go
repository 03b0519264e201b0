package delivery

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"syscall"
)

// A PlainError says in plain words what another error means.
type PlainError struct {
	Text  string
	Cause error
}

func (e *PlainError) Error() string { return e.Text }
func (e *PlainError) Unwrap() error { return e.Cause }

// Explain returns an error that says in plain words why a request to the URL failed. It wraps
// err. If there are no better words for err, the text stays, without the method and the URL
// that Go puts before it.
func Explain(err error, raw string) error {
	var urlErr *url.Error
	if errors.As(err, &urlErr) {
		err = urlErr.Err
	}
	if text := explanation(err, raw); text != "" {
		return &PlainError{text, err}
	}
	return err
}

func explanation(err error, raw string) string {
	host, scheme := raw, ""
	if u, parseErr := url.Parse(raw); parseErr == nil {
		host, scheme = u.Host, u.Scheme
	}
	var unknownHost *net.DNSError
	var notTLS tls.RecordHeaderError
	var notTrusted *tls.CertificateVerificationError
	var unknownAuthority x509.UnknownAuthorityError
	switch {
	case errors.As(err, &unknownHost): // also if the name server refused the connection
		return fmt.Sprintf("the host %s is not found: %s", unknownHost.Name, unknownHost.Err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("connection refused: nothing listens on %s", host)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return fmt.Sprintf("%s cannot be reached over the network", host)
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF):
		return fmt.Sprintf("%s closed the connection before it answered", host)
	case errors.As(err, &notTLS), strings.Contains(err.Error(), "HTTP response to HTTPS client"):
		return fmt.Sprintf("%s does not speak HTTPS; try http://", host)
	case errors.As(err, &notTrusted), errors.As(err, &unknownAuthority):
		return fmt.Sprintf("the certificate of %s is not trusted: %v", host, err)
	case strings.Contains(err.Error(), "malformed HTTP"),
		strings.Contains(err.Error(), "readLoopPeekFailLocked"): // it spoke before it was asked, as an SSH server does
		if scheme == "http" {
			return fmt.Sprintf("%s does not speak HTTP; try https://, or another port", host)
		}
		return fmt.Sprintf("%s does not speak HTTP", host)
	case errors.Is(err, context.DeadlineExceeded):
		return "none in time"
	case errors.Is(err, context.Canceled):
		return "interrupted"
	}
	return ""
}
