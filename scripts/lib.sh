# shellcheck shell=bash
# What the scripts of a deployment share.

# What make deploy was run with; Terraform reads it too.
record=infra/deploy.auto.tfvars.json

say() { printf '\n== %s\n' "$*" >&2; }

die() {
	printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2
	exit 1
}

need() {
	local tool
	for tool; do
		command -v "$tool" > /dev/null || die "$tool is not installed; infra/README.md says what is needed"
	done
}

# recorded NAME prints what make deploy has recorded, nothing if nothing.
recorded() {
	[ -f "$record" ] || return 0
	sed -n "s/^  \"$1\": \"\(.*\)\",\{0,1\}\$/\1/p" "$record"
}

tf() { terraform -chdir=infra "$@"; }

# apply applies after asking, or at once with YES=1.
apply() {
	if [ "${YES:-}" = 1 ]; then
		tf apply -input=false -auto-approve "$@"
	else
		tf apply "$@"
	fi
}

output() { tf output -raw "$1"; }

deployed() {
	[ -n "$(recorded project)" ] || die "nothing is deployed from this directory: make deploy PROJECT=... REGION=..."
}
