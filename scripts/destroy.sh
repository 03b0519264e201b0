#!/usr/bin/env bash
# make destroy deletes everything that make deploy created, also the tables with their
# rows. With YES=1 it does not ask.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
need terraform
deployed

project=$(recorded project)
if [ "${YES:-}" != 1 ]; then
	printf 'This deletes every event and every count of Tidemark in %s. Type the id of the project to continue: ' "$project" >&2
	read -r answer || true
	[ "$answer" = "$project" ] || die "not confirmed; nothing was deleted"
fi
tf_init

# This turns the protection off in the cloud and in Terraform's state; a deletion checks
# both. It applies only to what exists: without targets, Terraform would first create what
# an incomplete deployment lacks.
say "Turning the protection off"
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
[ -z "$left" ] || die "these still exist: $left"
rm "$record"
say "Everything is deleted, except enabled APIs, which cost nothing, and logs, which expire after 30 days"
