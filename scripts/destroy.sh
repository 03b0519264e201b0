#!/usr/bin/env bash
# make destroy: delete all that make deploy has made, the tables with their rows
# included. YES=1 answers Terraform's questions.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
need terraform
deployed

project=$(recorded project)
if [ "${YES:-}" != 1 ]; then
	printf 'This deletes every event and every count of Tidemark in %s. Type the name of the project to go on: ' "$project" >&2
	read -r answer || true
	[ "$answer" = "$project" ] || die "not confirmed, and nothing deleted"
fi
tf init -input=false > /dev/null || die "terraform init failed; its output: terraform -chdir=infra init"

# Protection is lifted where the deletion will look for it: in the cloud and in the
# state. Only what exists is touched, or a half-made deployment would be made first.
say "Lifting the protection"
targets=()
while read -r address; do
	targets+=("-target=$address")
done < <(tf state list | grep -E '^google_(bigquery_dataset|bigquery_table|firestore_database)\.' || true)
if [ "${#targets[@]}" -gt 0 ]; then
	apply -var deletion_protection=false "${targets[@]}"
fi

say "Deleting"
if [ "${YES:-}" = 1 ]; then
	tf destroy -input=false -auto-approve -var deletion_protection=false
else
	tf destroy -var deletion_protection=false
fi

left=$(tf state list)
[ -z "$left" ] || die "still there: $left"
rm "$record"
say "Nothing is left, but for enabled APIs, which cost nothing, and logs, which expire after 30 days"
