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

// Anyone lets every program pass. It is for a server that only its owner can connect to.
//
// The owner's browser can connect too. [CheckSite] refuses pages of other sites, but a
// page can pretend to be this server's own: after the browser has loaded the page, the
// owner of the page's name can point the name at 127.0.0.1. So Anyone also checks that
// the name belongs to this server. For a page that writes, it checks the name in Origin;
// for a request that reads, the name in Host. Programs that push or flush may use any
// name, since they send no Origin.
type Anyone struct {
	// Hosts are host names that mean this server. IP addresses and localhost always do.
	Hosts []string
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

// isOwn reports whether a host, with or without a port, is a name of this server.
func (a Anyone) isOwn(host string) bool {
	name := (&url.URL{Host: host}).Hostname()
	if name == "" {
		return false
	}
	_, err := netip.ParseAddr(name)
	return err == nil || strings.EqualFold(name, "localhost") ||
		slices.ContainsFunc(a.Hosts, func(own string) bool { return strings.EqualFold(own, name) })
}

// CheckSite returns a [*ForeignPageError] for a request that a browser sent for a page of
// another site. Such a request has the owner's cookies, or comes through the owner's proxy
// or from the owner's machine. So it could do and read what the owner may, and cause
// costs. A link to the page at / passes. Programs name no site, and pass.
func CheckSite(r *http.Request) error {
	switch site := strings.Join(r.Header.Values("Sec-Fetch-Site"), ", "); {
	case site == "same-origin", site == "none":
		return nil
	case site != "" && isLink(r):
		return nil
	case site != "":
		return &ForeignPageError{fmt.Errorf("its Sec-Fetch-Site is %s", strictjson.Quote(site))}
	}
	// Only old browsers, and browsers that connect without TLS, send no Sec-Fetch-Site.
	if origin, sent := origin(r.Header); sent {
		if u, err := url.Parse(origin); err != nil || !strings.EqualFold(u.Host, r.Host) {
			return &ForeignPageError{fmt.Errorf("its Origin is %s", strictjson.Quote(origin))}
		}
	}
	return nil
}

// isLink reports whether the browser opens the page at / itself, not in a frame.
func isLink(r *http.Request) bool {
	return r.Method == http.MethodGet && r.URL.Path == "/" &&
		r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
}

// origin returns the origin of the page that sends the request, and whether a page sends
// it. An unwrapped push may have an attribute named origin, with another kind of value.
func origin(header http.Header) (origin string, sent bool) {
	origin = strings.Join(header.Values("Origin"), ", ")
	return origin, origin == "null" || strings.Contains(origin, "://")
}
