package handler

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/strictjson"
)

// The headers in which an unwrapped push carries the message's metadata.
const (
	messageIDHeader    = "X-Goog-Pubsub-Message-Id"
	publishTimeHeader  = "X-Goog-Pubsub-Publish-Time"
	subscriptionHeader = "X-Goog-Pubsub-Subscription-Name"
)

// decodeUnwrapped reads a message whose data is the body and whose metadata and
// attributes are headers.
//
// An attribute arrives as a header that nothing tells from the transport's own,
// which differ from one delivery to the next. So the verdict and a derived id
// may depend only on the attributes that settings name. All headers go with the
// message all the same, since any may be an attribute, and a message that ends
// as a dead letter, now or when the warehouse refuses it, is kept whole.
//
// Of two values of a metadata header none is believed, because an attribute may be
// among them: the message is ambiguous, and so a dead letter. If its id is in doubt, it
// gets one that is derived from both, which is the same on every delivery and no other
// message's; if its publish time is, the time of receipt stands in.
//
// An attribute whose name is that of a header with a meaning of its own takes that
// meaning: with one named Authorization or X-Serverless-Authorization, or
// Content-Encoding, the message may be refused on every delivery, since whoever
// checks callers and bodies cannot tell it from the transport's. A wrapped push has
// no such limit.
func (h *Handler) decodeUnwrapped(r *http.Request, body []byte, received time.Time) (event.Message, error) {
	headers := headerAttributes(r.Header)
	named := h.namedAttributes(headers)
	m := event.Message{PublishTime: received, PublishTimeSource: event.FromReceipt, Attributes: merge(headers, named), Data: body}
	var twice []string
	identity := maps.Clone(named) // what an id is derived from
	metadata := func(name string) (value string, given bool) {
		values := metadataValues(r.Header, name)
		if len(values) > 1 {
			identity[name] = strings.Join(values, ",")
			twice = append(twice, fmt.Sprintf("header %s has %d values, %s", strings.ToLower(name), len(values), strictjson.Quote(identity[name])))
			return "", false
		}
		return values[0], r.Header[name] != nil
	}
	m.ID, _ = metadata(messageIDHeader)
	published, given := metadata(publishTimeHeader)
	m.Subscription, _ = metadata(subscriptionHeader)
	m.Ambiguous = strings.Join(twice, "; ")

	if m.ID == "" && m.Ambiguous == "" && h.requireMessageID {
		return event.Message{}, refuse(errInvalid, errors.New("header x-goog-pubsub-message-id is missing: an unwrapped push needs the message's metadata; "+
			"set it on the subscription with --push-no-wrapper-write-metadata, or deliver wrapped, to /push; by hand, send such a header of your own"))
	}
	if m.ID == "" {
		m.ID = event.DerivedID(body, identity)
	}
	if given {
		t, err := event.ParseTime(published)
		if err != nil {
			return event.Message{}, refuse(errInvalid, fmt.Errorf("header x-goog-pubsub-publish-time: %w", err))
		}
		m.PublishTime, m.PublishTimeSource = t, event.FromMessage
	}
	judged := m
	judged.Attributes = named // of the other headers nobody knows which are attributes
	if err := judged.CheckLimits(); err != nil {
		return event.Message{}, refuse(errInvalid, err)
	}
	return m, nil
}

// metadataValues returns the values of a metadata header, sorted, and one that is empty
// if there are none. A second value can come of an attribute with the header's name,
// which may stand before Pub/Sub's own value or, behind a proxy that joins them, in one
// header with it. No value of Pub/Sub's has a comma.
func metadataValues(header http.Header, name string) []string {
	values := strings.Split(text(strings.Join(header.Values(name), ",")), ",")
	for i, value := range values {
		values[i] = strings.TrimSpace(value)
	}
	slices.Sort(values)
	return values
}

// credentials are the headers that are read by whoever checks the caller, here or
// in a proxy before here, and kept nowhere.
var credentials = []string{
	"authorization", "cookie", "proxy-authorization", "x-serverless-authorization",
	"x-forwarded-authorization", // API Gateway and ESPv2: the caller's own, with its signature
	"x-goog-iap-jwt-assertion",  // Identity-Aware Proxy
}

// headerAttributes returns the headers as attributes: names in lower case, as
// HTTP/2 has them, the values of each joined as HTTP joins them, and no
// credentials.
func headerAttributes(header http.Header) map[string]string {
	attributes := make(map[string]string, len(header))
	for name, values := range header {
		attributes[strings.ToLower(name)] = text(strings.Join(values, ", "))
	}
	for _, name := range credentials {
		delete(attributes, name)
	}
	return attributes
}

// namedAttributes returns those of the headers that settings name, under the
// names that the settings give them. Case was lost on the way here, so it does
// not matter.
func (h *Handler) namedAttributes(headers map[string]string) map[string]string {
	named := map[string]string{}
	for _, name := range []string{h.classifier.EventTime.Attribute(), h.classifier.EventID.Attribute()} {
		if value, ok := headers[strings.ToLower(name)]; ok {
			named[name] = value
		}
	}
	return named
}

// merge returns all headers, with the named ones under their own names only: as
// they would be had the message come wrapped.
func merge(headers, named map[string]string) map[string]string {
	all := maps.Clone(headers)
	for name := range named {
		delete(all, strings.ToLower(name))
	}
	maps.Copy(all, named)
	return all
}

// text returns a header's value as UTF-8, without which no table stores it: as
// it is, or else read as Latin-1, which HTTP's text once was. Unlike a
// replacement character, that keeps two ids apart.
func text(value string) string {
	if utf8.ValidString(value) {
		return value
	}
	runes := make([]rune, len(value))
	for i, b := range []byte(value) {
		runes[i] = rune(b)
	}
	return string(runes)
}
