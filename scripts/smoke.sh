#!/usr/bin/env bash
# make smoke publishes five events and waits until they are stored and counted and their
# windows are final. It also checks that the service refuses a call without a token, and
# that the audit finds no difference. With the default windows this takes about five
# minutes, mostly for the allowed lateness.
#
# With a pipeline file of your own it publishes the one event that you give: make smoke
# EVENT='{...}', and ATTRIBUTES=name=value if the event needs some. The event's time must
# be now, so that the event is not late.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
need terraform gcloud bq curl
deployed

project=$(output project)
url=$(output url)
raw=$(output raw)
events=$(output events)
windows=$(output windows)
topic=$(output topic)
sent=5
[ -z "${EVENT:-}" ] || sent=1
if [ -n "$(output pipeline_file)" ] && [ -z "${EVENT:-}" ]; then
	die "usage: make smoke EVENT='{...}', with an event of the pipeline file whose time is now"
fi

# until_true SECONDS COMMAND... runs the command until it succeeds. It fails after SECONDS.
until_true() {
	local deadline=$((SECONDS + $1))
	shift
	until "$@"; do
		[ "$SECONDS" -lt "$deadline" ] || return 1
		sleep "${POLL_SECONDS:-5}"
	done
}

# ask SQL runs a query that returns one row of one value, and prints the value.
ask() { bq --project_id="$project" --headless --quiet --format=csv query --nouse_legacy_sql "$1" | tail -n 1; }

say "A stranger is refused"
answer=$(curl -s -w '\n%{http_code}' -X POST "$url/flush")
status=${answer##*$'\n'}
case $answer in
*'"UNAUTHENTICATED"'*) # the service itself answered: with AUTH=iam it does not check signatures, so anybody could forge a token
	die "POST /flush without a token gets through to the service: remove roles/run.invoker from allUsers, and turn Cloud Run's invoker check on" ;;
esac
case $status in
401 | 403) echo "POST /flush without a token: $status" ;;
*) die "POST /flush without a token got status $status, want 401 or 403: check who may invoke the service" ;;
esac

say "$sent events to $topic"
publish() { gcloud pubsub topics publish "$topic" --project="$project" "$@"; }
if [ -n "${EVENT:-}" ]; then
	id=$(publish --format='value(messageIds[0])' ${ATTRIBUTES:+--attribute="$ATTRIBUTES"} --message="$EVENT")
	mine="message_id = '$id'"
else
	id=smoke-$(date +%s)-$$
	mine="user_agent = '$id'"
	for n in $(seq "$sent"); do
		now=$(date -u +%Y-%m-%dT%H:%M:%S.000000Z)
		publish --attribute="timestamp=$now" --format='value(messageIds)' --message="{
			\"ip\": \"192.0.2.$n\", \"user_id\": \"$n\", \"lat\": null, \"lng\": null, \"timestamp\": \"$now\",
			\"http_request\": \"\\\"GET smoke.html HTTP/1.0\\\"\", \"http_response\": 200, \"num_bytes\": $n, \"user_agent\": \"$id\"}"
	done
fi
# This condition selects the events of this run. The time only limits how much is read.
mine="$mine AND processing_timestamp >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 2 DAY)"

say "They are stored"
stored() { [ "$(ask "SELECT COUNT(DISTINCT event_id) FROM \`$raw\` WHERE $mine")" = "$sent" ]; }
until_true 180 stored ||
	die "after 3 minutes not all events are in $raw: are they in $(output dead_letter)? If not, see docs/playbooks/oldest-unacked.md"
echo "$sent events ($id) are in $raw"

say "Their windows become final"
final() {
	[ "$(ask "SELECT COUNT(DISTINCT e.window_start) > 0 AND LOGICAL_AND(IFNULL(w.is_final, FALSE)) AND NOT LOGICAL_OR(e.is_late)
		FROM \`$events\` AS e LEFT JOIN \`$windows\` AS w ON w.timestamp = e.window_start
		WHERE $mine")" = true ]
}
wait=$(($(output closes_after) + 180))
echo "this takes up to $wait seconds"
until_true "$wait" final || die "after $wait seconds a window is not final, or an event is late: see docs/playbooks/flush-missing.md"
count=$(output count_column)
ask "SELECT STRING_AGG(FORMAT('%t  %d $count', timestamp, \`$count\`), '; ')
	FROM \`$windows\` WHERE timestamp IN (SELECT window_start FROM \`$events\` WHERE $mine)"

say "The audit finds no difference"
from=$(ask "SELECT FORMAT_TIMESTAMP('%FT%TZ', MIN(window_start)) FROM \`$events\` WHERE $mine")
audit() {
	local token
	token=$(gcloud auth print-identity-token --quiet --impersonate-service-account="$(output viewer)" \
		--audiences="$(output audience)" --include-email 2> /dev/null) &&
		report=$(curl -sf -H "Authorization: Bearer $token" "$url/audit?from=$from")
}
report=
until_true 120 audit || die "cannot ask for an audit: may you impersonate $(output viewer)?"
echo "$report"
case $report in
*'"lower":[],"higher":[],"more":false'*) ;;
*) die "the audit finds a difference" ;;
esac

say "It works"
