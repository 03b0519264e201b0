package callers

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/tidemark-dev/tidemark/internal/strictjson"
)

// Anyone lets every program pass, for a server to which only its owner can connect.
//
// The owner's browser can connect too. [CheckSite] refuses pages of other sites, but a
// page may pass for this server's own: whoever owns a name can make it mean 127.0.0.1
// once the browser has loaded the page from there. So the name itself must be one of
// this server: of the page that writes, by its Origin, and of whatever reads, by its
// Host. Programs that push or flush may use any name, since they send no Origin.
type Anyone struct {
	Hosts []string // the names of this server, besides localhost and IP addresses
}

// Check returns no account. The error is a [*ForeignPageError].
func (a Anyone) Check(r *http.Request, role Role) (string, error) {
	if role == View && !a.isOwn(r.Host) {
		return "", a.unknown(r.Host)
	}
	if origin, sent := origin(r.Header); sent && r.Method != http.MethodGet && r.Method != http.MethodHead {
		if u, err := url.Parse(origin); err != nil || !a.isOwn(u.Host) {
			return "", a.unknown(origin)
		}
	}
	return "", nil
}

func (a Anyone) unknown(name string) error {
	return &ForeignPageError{fmt.Errorf("%s is not known as a name of this server: use http://localhost or an IP address, or set ALLOWED_HOSTS", strictjson.Quote(name))}
}

// isOwn tells whether a host, with or without a port, is this server's.
func (a Anyone) isOwn(host string) bool {
	name := (&url.URL{Host: host}).Hostname()
	if name == "" {
		return false
	}
	_, err := netip.ParseAddr(name)
	return err == nil || strings.EqualFold(name, "localhost") ||
		slices.ContainsFunc(a.Hosts, func(own string) bool { return strings.EqualFold(own, name) })
}

// CheckSite returns a [*ForeignPageError] for a request that a browser sent for a page
// of another site: with the owner's cookies, through the owner's proxy or from the
// owner's machine it could do and read what the owner may, or run up a bill. A link to
// the page at / is followed. Programs say nothing of sites, and pass.
func CheckSite(r *http.Request) error {
	switch site := strings.Join(r.Header.Values("Sec-Fetch-Site"), ", "); {
	case site == "same-origin", site == "none":
		return nil
	case site != "" && isLink(r):
		return nil
	case site != "":
		return &ForeignPageError{fmt.Errorf("its Sec-Fetch-Site is %s", strictjson.Quote(site))}
	}
	// Only an old browser comes here, or one that connects without TLS.
	if origin, sent := origin(r.Header); sent {
		if u, err := url.Parse(origin); err != nil || !strings.EqualFold(u.Host, r.Host) {
			return &ForeignPageError{fmt.Errorf("its Origin is %s", strictjson.Quote(origin))}
		}
	}
	return nil
}

// isLink tells whether the browser opens the page at / itself, and in no frame.
func isLink(r *http.Request) bool {
	return r.Method == http.MethodGet && r.URL.Path == "/" &&
		r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
}

// origin returns where the page is from that sends the request, if a page does. An
// unwrapped push may have an attribute of this name, with another kind of value.
func origin(header http.Header) (origin string, sent bool) {
	origin = strings.Join(header.Values("Origin"), ", ")
	return origin, origin == "null" || strings.Contains(origin, "://")
}
