package callers

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/tidemark-dev/tidemark/internal/strictjson"
)

// Anyone lets every program pass, for a server to which only its owner can connect.
// The owner's browser can connect too, and any page that it shows may send to
// 127.0.0.1, so a page of another site may not write. (What a page of another site
// asks to read, the browser does not show it, unless the page's name was made to mean
// 127.0.0.1 meanwhile: a local server keeps no secret from that.)
type Anyone struct{}

// foreign tells a page's requests by what browsers say of them, and lets programs
// pass, which say nothing.
var foreign http.CrossOriginProtection

// Check returns no account. The error is a [*ForeignPageError].
func (Anyone) Check(r *http.Request, _ Role) (string, error) {
	origin := r.Header.Get("Origin")
	if r.Header.Get("Sec-Fetch-Site") == "" && origin != "null" && !strings.Contains(origin, "://") {
		return "", nil // no browser; an unwrapped push may have an attribute origin
	}
	if err := foreign.Check(r); err != nil {
		return "", &ForeignPageError{err}
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead && origin != "" && !numbered(origin) {
		return "", &ForeignPageError{fmt.Errorf("the page's address %s is a name, which may have led here for this only; use http://localhost or an IP address", strictjson.Quote(origin))}
	}
	return "", nil
}

// numbered tells whether a page's origin says by itself where it came from. A name
// does not: whoever owns it can have it mean 127.0.0.1 once his page is there, and
// the page then counts as this server's own.
func numbered(origin string) bool {
	u, err := url.Parse(origin)
	return err == nil && (u.Hostname() == "localhost" || net.ParseIP(u.Hostname()) != nil)
}
