package pipeline

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
)

const ordersFile = `
name: orders
window: 60s
lateness: 2m
event:
  time: created_at
  id: field:order_id
  fields:
    - {name: order_id,    type: STRING,    mode: REQUIRED, description: Order.}
    - {name: created_at,  type: TIMESTAMP, mode: REQUIRED, from: order.created, format: unix_ms}
    - processing_timestamp
    - {name: country,     type: STRING,    mode: NULLABLE, from: customer.address.country}
    - {name: amount,      type: INT64,     mode: REQUIRED, description: Cents.}
    - {name: ms,          type: FLOAT}
  rest: payload
aggregate:
  columns:
    - {name: orders, count: true}
`

func TestAPipelineFileIsRead(t *testing.T) {
	t.Parallel()
	got, err := Parse([]byte(ordersFile))
	if err != nil {
		t.Fatal(err)
	}
	want := File{
		Name: "orders", Window: "60s", Lateness: "2m", ID: "field:order_id", Count: "orders", ProcessingAt: 2,
		Schema: event.Schema{
			Time: "created_at", Rest: "payload",
			Fields: []event.Field{
				{Name: "order_id", Type: event.String, Required: true, Path: []string{"order_id"}, Description: "Order."},
				{Name: "created_at", Type: event.Timestamp, Required: true, Path: []string{"order", "created"}, Format: event.UnixMilli},
				{Name: "country", Type: event.String, Path: []string{"customer", "address", "country"}},
				{Name: "amount", Type: event.Integer, Required: true, Path: []string{"amount"}, Description: "Cents."},
				{Name: "ms", Type: event.Float, Path: []string{"ms"}},
			},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	const line = "event time created_at, event id field:order_id, count orders, fields: order_id STRING REQUIRED, created_at TIMESTAMP REQUIRED from order.created, " +
		"country STRING from customer.address.country, amount INTEGER REQUIRED, ms FLOAT; the rest in payload"
	if got.String() != line {
		t.Errorf("on one line: %s", got)
	}
}

func TestTheBuiltInFileIsAFile(t *testing.T) {
	t.Parallel()
	f, _, err := parse([]byte(Lab))
	if err != nil {
		t.Fatal(err)
	}
	if f.Count != "page_views" || f.ProcessingAt != 6 || len(f.Schema.Fields) != 9 {
		t.Errorf("the built-in file is not the lab's: %+v", f)
	}
	if _, err := Parse([]byte(Lab)); err == nil || !strings.Contains(err.Error(), "line 9: the pipeline has no name") {
		t.Errorf("a pipeline file without a name: got %v", err)
	}
}

// Each bad file is the orders file with one replacement, or a text of its own. No problem
// may lead to a second message.
func TestABadPipelineFileIsRefusedWithLineAndAdvice(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ old, new, want string }{
		"no name":                    {"name: orders\n", "", "line 2: the pipeline has no name; write name:"},
		"name with a hyphen":         {"name: orders\n", "name: my-orders\n", `line 2: name "my-orders" is part of the names of tables; write letters, digits and _`},
		"name of SQLite's":           {"name: orders\n", "name: SQLite\n", `line 2: name "SQLite" would begin the names of tables, and SQLite keeps names`},
		"name NO":                    {"name: orders\n", "name: NO\n", `line 2: name is NO, which YAML may take for something other than text; write "NO", in quotes`},
		"name is a number":           {"name: orders\n", "name: 12\n", `line 2: name is 12, which YAML may take for something other than text; write "12", in quotes`},
		"empty value":                {"name: orders\n", "name:\n", "line 2: name has no value; write one or leave the key out"},
		"unknown key":                {"window: 60s", "windows: 60s", `line 3: the file has no key "windows"; did you mean window?`},
		"key that is like no other":  {"window: 60s", "minutes: 1", `line 3: the file has no key "minutes"; its keys are name, window, lateness, event, aggregate`},
		"misspelt name":              {"{name: amount", "{nam: amount", `line 13: a field has no key "nam"; did you mean name?`},
		"misspelt fields":            {"  fields:", "  field:", `line 8: event has no key "field"; did you mean fields?`},
		"no fields":                  {ordersFile[strings.Index(ordersFile, "  fields:"):strings.Index(ordersFile, "  rest:")], "", "line 6: event has no fields; write fields:, and a line for each field"},
		"misspelt event":             {"event:", "evnt:", `line 5: the file has no key "evnt"; did you mean event?`},
		"field named NO":             {"{name: order_id,", "{name: NO,", `line 9: name is NO, which YAML may take for something other than text`},
		"count named NO":             {"{name: orders, count", "{name: NO, count", `line 18: name is NO, which YAML may take for something other than text`},
		"misspelt count":             {"count: true", "cuont: true", `line 18: a column has no key "cuont"; did you mean count?`},
		"event time with a bad mode": {"type: TIMESTAMP, mode: REQUIRED", "type: TIMESTAMP, mode: required", `line 10: mode is "required", want REQUIRED`},
		"event time with a bad type": {"type: TIMESTAMP, mode: REQUIRED", "type: TIME, mode: REQUIRED", `line 10: type TIME is not for fields of events; write STRING`},
		"event time without a type":  {"type: TIMESTAMP, mode: REQUIRED", "mode: REQUIRED", `line 10: field created_at has no type`},
		"event time misspelt":        {"time: created_at", "time: create_at", "line 6: time: create_at is not the name of a field; did you mean created_at?"},
		"event id misspelt":          {"id: field:order_id", "id: field:orderid", "line 7: id: field:orderid is not the name of a field; did you mean order_id?"},

		"duplicate key":                 {"window: 60s", "name: other", "line 3: key name of the file is already on line 2; keep one of them"},
		"duplicate key in a field":      {"type: INT64,     mode: REQUIRED", "type: INT64, type: STRING", "line 13: key type of a field is already on line 13; keep one of them"},
		"key in another case":           {"event:", "Event:", `line 5: the file has no key "Event"`},
		"bad duration":                  {"window: 60s", "window: a minute", `line 3: window is "a minute": want a duration`},
		"duration with a colon":         {"window: 60s", "window: 1:00", `line 3: window is "1:00": want a duration`},
		"alias":                         {"- {name: ms,          type: FLOAT}", "- &f {name: ms, type: FLOAT}\n    - *f", "line 14: &f is an anchor; leave it out\nline 15: *f is an alias; write the value itself"},
		"anchor":                        {"description: Cents.", "description: &text Cents.", "line 13: &text is an anchor; leave it out"},
		"tag":                           {"description: Cents.", "description: !!str Cents.", "line 13: !!str is a tag; leave it out, and put text in quotes"},
		"merge key":                     {"rest: payload", "<<: {rest: payload}", `line 15: event has no key "<<"`},
		"two documents":                 {"aggregate:", "---\naggregate:", "line 16: a second document begins; a pipeline file has one"},
		"not YAML":                      {"name: orders", "name: orders: 1", "line 2: it is not YAML: mapping values are not allowed"},
		"tab":                           {"  time: created_at", "\ttime: created_at", "line 6: it is not YAML:"},
		"no type":                       {"type: INT64,     mode: REQUIRED", "mode: REQUIRED", "line 13: field amount has no type; write type: and one of STRING"},
		"lower-case type":               {"type: INT64", "type: integer", `line 13: type is "integer"; write INTEGER`},
		"unknown type":                  {"type: INT64", "type: MONEY", `line 13: type is "MONEY", want STRING, INTEGER, FLOAT, BOOLEAN or TIMESTAMP`},
		"NUMERIC":                       {"type: INT64", "type: NUMERIC", "line 13: type NUMERIC is not for fields of events; write INTEGER and count in the smallest unit, as cents, or STRING"},
		"RECORD":                        {"type: INT64", "type: RECORD", "line 13: type RECORD is not for fields of events; write a field for each value"},
		"JSON":                          {"type: INT64", "type: JSON", "line 13: type JSON is not for fields of events; keep it with event: rest: payload"},
		"DATE":                          {"type: INT64", "type: DATE", "line 13: type DATE is not for fields of events; write STRING, or TIMESTAMP"},
		"mode REPEATED":                 {"mode: NULLABLE, from: customer.address.country", "mode: REPEATED", "line 12: mode REPEATED is not for fields of events; keep a list with event: rest: payload"},
		"unknown mode":                  {"mode: NULLABLE, from: customer.address.country", "mode: OPTIONAL", `line 12: mode is "OPTIONAL", want REQUIRED`},
		"unknown format":                {"format: unix_ms", "format: unix", `line 10: format is "unix", want rfc3339`},
		"format of a string":            {"from: customer.address.country", "format: unix_s", "line 12: format goes with TIMESTAMP, and country is STRING; leave format out"},
		"field without a name":          {"name: amount,      type: INT64", "type: INT64", "line 13: the field has no name; write name: and the name of its column"},
		"field that is a text":          {"- {name: ms,          type: FLOAT}", "- ms", `line 14: a field is "ms", want keys with values: name, type, mode, from, format, description`},
		"name with a dot":               {"name: amount", "name: order.amount", `line 13: name "order.amount" cannot be a column; write letters, digits and _`},
		"name of 129 characters":        {"name: amount", "name: " + strings.Repeat("a", 129), "cannot be a column"},
		"name of ours":                  {"name: amount", "name: event_id", "line 13: column event_id is Tidemark's own; write {name: payload_event_id, from: event_id}"},
		"name of ours in capitals":      {"name: ms,          type: FLOAT", "name: Is_Late, type: BOOL", "line 14: column Is_Late is Tidemark's own; write {name: payload_is_late, from: Is_Late}"},
		"name reserved by BigQuery":     {"name: amount", "name: _PARTITIONTIME", `line 13: name "_PARTITIONTIME" begins with _PARTITION, which BigQuery keeps for itself`},
		"names differ by case":          {"name: ms,          type", "name: Country, from: x, type", "line 14: column Country is on line 12 already (names do not differ by case alone); choose another name, with from: x"},
		"rest has a field's name":       {"rest: payload", "rest: amount", "line 15: column amount is on line 13 already"},
		"two fields from one key":       {"{name: ms, ", "{name: ms, from: amount,", "line 14: fields amount and ms are both from amount; keep one of them"},
		"a field inside another":        {"{name: ms, ", "{name: ms, from: customer.address,", "line 14: field country is from customer.address.country and field ms is from customer.address: one of the two is inside the other"},
		"empty key in from":             {"from: order.created", "from: order..created", `line 10: from "order..created" has an empty key`},
		"time of no field":              {"time: created_at", "time: received", "line 6: time: received is not the name of a field; the fields are order_id, created_at, country, amount, ms"},
		"time of a string":              {"time: created_at", "time: order_id", "line 6: time: order_id is a field of type STRING; the event time must be a TIMESTAMP"},
		"time of a nullable field":      {"type: TIMESTAMP, mode: REQUIRED", "type: TIMESTAMP, mode: NULLABLE", "line 6: time: created_at may be missing from an event; write mode: REQUIRED at the field"},
		"unknown id":                    {"id: field:order_id", "id: order_id", `line 7: id is "order_id", want message (the id of the message), attribute:NAME or field:NAME`},
		"id of no field":                {"id: field:order_id", "id: field:order", "line 7: id: field:order is not the name of a field"},
		"id of a nullable field":        {"id: field:order_id", "id: field:country", "line 7: id: field:country must be a field of type STRING or INTEGER with mode: REQUIRED"},
		"description of two lines":      {"description: Cents.", `description: "One.\nTwo."`, "line 13: the description has several lines; write one"},
		"processing_timestamp twice":    {"    - {name: ms,          type: FLOAT}", "    - processing_timestamp", "line 14: processing_timestamp is in the list twice; keep one"},
		"no event":                      {ordersFile[strings.Index(ordersFile, "event:"):strings.Index(ordersFile, "aggregate:")], "", "line 2: the file has no event; write event:"},
		"fields is no list":             {ordersFile[strings.Index(ordersFile, "    - {name: order_id"):strings.Index(ordersFile, "  rest:")], "    order_id: STRING\n", "line 9: fields is keys with values, want a list"},
		"no aggregate":                  {ordersFile[strings.Index(ordersFile, "aggregate:"):], "", "line 2: the file has no aggregate; write aggregate:"},
		"groups":                        {"aggregate:", "aggregate:\n  by: [country]", "line 17: groups are not in this version; leave by: out"},
		"a sum":                         {"- {name: orders, count: true}", "- {name: orders, count: true}\n    - {name: revenue, sum: amount}", "line 19: of the aggregates this version has count only"},
		"count: yes":                    {"count: true", "count: yes", "line 18: count is yes, want true or false"},
		"count: false":                  {"count: true", "count: false", "line 18: column orders does not say what it is; write count: true"},
		"two counts":                    {"- {name: orders, count: true}", "- {name: orders, count: true}\n    - {name: again, count: true}", "line 19: there are two counts, orders and again; keep one"},
		"count with a name of ours":     {"name: orders, count", "name: timestamp, count", "line 18: column timestamp is Tidemark's own in the aggregate; choose another name"},
		"empty file":                    {ordersFile, "", "line 1: the file is empty; `tidemark init` prints one"},
		"a list":                        {ordersFile, "- name: orders", "line 1: the file is a list, want keys with values"},
		"more than 64 KiB":              {ordersFile, ordersFile + "#" + strings.Repeat(" ", 64<<10), "want at most 65536"},
		"more than 200 fields":          {"    - {name: ms,          type: FLOAT}", manyFields(201), "want at most 200"},
		"text in another character set": {"Cents.", "\xe9uros", "it is not YAML"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(ordersFile, test.old) {
				t.Fatalf("%q is not in the file", test.old)
			}
			_, err := Parse([]byte(strings.Replace(ordersFile, test.old, test.new, 1)))
			if err == nil {
				t.Fatal("not refused")
			}
			if !strings.Contains(err.Error(), test.want) || strings.Count(err.Error(), "\n") != strings.Count(test.want, "\n") {
				t.Errorf("got  %v\nwant %s and no other problem", err, test.want)
			}
		})
	}
}

func manyFields(n int) string {
	var lines strings.Builder
	for i := range n {
		lines.WriteString("    - {name: f" + strings.Repeat("x", i%100) + string(rune('a'+i/100)) + ", type: FLOAT}\n")
	}
	return lines.String()
}

func TestEveryProblemOfAPipelineFileIsNamed(t *testing.T) {
	t.Parallel()
	_, err := Parse([]byte(strings.NewReplacer("INT64", "MONEY", "60s", "soon", "unix_ms", "unix").Replace(ordersFile)))
	if err == nil {
		t.Fatal("not refused")
	}
	lines := strings.Split(err.Error(), "\n")
	for i, want := range []string{"line 3: window", "line 10: format", "line 13: type"} {
		if i >= len(lines) || !strings.HasPrefix(lines[i], want) {
			t.Errorf("problem %d does not begin with %q:\n%v", i, want, err)
		}
	}
}
