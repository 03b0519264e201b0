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

// The headers that carry the message's metadata in an unwrapped push.
const (
	messageIDHeader    = "X-Goog-Pubsub-Message-Id"
	publishTimeHeader  = "X-Goog-Pubsub-Publish-Time"
	subscriptionHeader = "X-Goog-Pubsub-Subscription-Name"
)

// decodeUnwrapped reads a message whose data is the body and whose metadata and
// attributes are headers.
//
// An attribute arrives as a header. Nothing distinguishes it from the headers of the
// transport, which differ from one delivery to the next. So the verdict and a derived
// id depend only on the attributes that settings name. Still, all headers are kept
// with the message, since any of them may be an attribute. A dead letter, whether the
// message becomes one here or when the warehouse refuses it, is so kept whole.
//
// If a metadata header has two values, neither is trusted, because one of them may be
// an attribute. The message is ambiguous, and so a dead letter. If the id has two
// values, the message gets an id derived from both: the same id on every delivery, and
// no other message's. If the publish time has two values, the time of receipt replaces
// it.
//
// An attribute may have the name of a header with a meaning of its own, and then has
// that meaning. A message with an attribute named Authorization,
// X-Serverless-Authorization or Content-Encoding may be refused on every delivery: the
// checks of callers and bodies take the attribute for the transport's header. A
// wrapped push has no such limit.
func (h *Handler) decodeUnwrapped(r *http.Request, body []byte, received time.Time) (event.Message, error) {
	headers := headerAttributes(r.Header)
	named := h.namedAttributes(headers)
	m := event.Message{PublishTime: received, PublishTimeSource: event.FromReceipt, Attributes: merge(headers, named), Data: body}
	var twice []string
	identity := maps.Clone(named) // the id is derived from these
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

	if m.ID == "" && m.Ambiguous == "" && h.cfg.RequireMessageID {
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
	judged.Attributes = named // the other headers may not be attributes
	if err := judged.CheckLimits(); err != nil {
		return event.Message{}, refuse(errInvalid, err)
	}
	return m, nil
}

// metadataValues returns the values of a metadata header, sorted. If there is no value,
// it returns one empty value. A second value may be an attribute with the header's name.
// That attribute may come before Pub/Sub's value, or in the same header if a proxy joins
// them. Pub/Sub's own values have no comma.
func metadataValues(header http.Header, name string) []string {
	values := strings.Split(text(strings.Join(header.Values(name), ",")), ",")
	for i, value := range values {
		values[i] = strings.TrimSpace(value)
	}
	slices.Sort(values)
	return values
}

// credentials are the headers that prove who the caller is, to this program or to a
// proxy before it. They are not stored.
var credentials = []string{
	"authorization", "cookie", "proxy-authorization", "x-serverless-authorization",
	"x-forwarded-authorization", // API Gateway and ESPv2: the caller's own, with its signature
	"x-goog-iap-jwt-assertion",  // Identity-Aware Proxy
}

// headerAttributes returns the headers as attributes, without credentials. Names are in
// lower case, as in HTTP/2. The values of one header are joined as HTTP joins them.
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

// namedAttributes returns the headers that settings name, under the names in the
// settings. HTTP does not keep the case of a name, so case does not matter.
func (h *Handler) namedAttributes(headers map[string]string) map[string]string {
	named := map[string]string{}
	for _, name := range h.cfg.Classifier.Attributes() {
		if value, ok := headers[strings.ToLower(name)]; ok {
			named[name] = value
		}
	}
	return named
}

// merge returns all headers. The named headers are under the names in the settings only,
// as the attributes of a wrapped push are.
func merge(headers, named map[string]string) map[string]string {
	all := maps.Clone(headers)
	for name := range named {
		delete(all, strings.ToLower(name))
	}
	maps.Copy(all, named)
	return all
}

// text returns a header's value as UTF-8, since tables store only UTF-8. A value that is
// not UTF-8 is read as Latin-1, the older encoding of headers. Latin-1 keeps two
// different ids different; replacement characters would not.
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
