# shellcheck shell=bash
# What deploy.sh, smoke.sh and destroy.sh share.

# The file with the values of the last make deploy. Terraform reads it too.
record=infra/deploy.auto.tfvars.json

say() { printf '\n== %s\n' "$*" >&2; }

die() {
	printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2
	exit 1
}

need() {
	local tool
	for tool; do
		command -v "$tool" > /dev/null || die "$tool is not installed; infra/README.md lists the tools that you need"
	done
}

# recorded NAME prints a value from the record, or nothing if there is no such value.
recorded() {
	[ -f "$record" ] || return 0
	sed -n "s/^  \"$1\": \"\(.*\)\",\{0,1\}\$/\1/p" "$record"
}

tf() { terraform -chdir=infra "$@"; }

tf_init() {
	tf init -input=false > /dev/null || die "terraform init failed; to see why, run: terraform -chdir=infra init"
}

# apply runs terraform apply, which asks first; with YES=1 it does not ask.
apply() {
	if [ "${YES:-}" = 1 ]; then
		tf apply -input=false -auto-approve "$@"
	else
		tf apply "$@"
	fi
}

output() { tf output -raw "$1"; }

# variable EXPRESSION prints a text that depends on Terraform's variables alone. Terraform
# prints it in quotes, after warnings.
variable() { tf console <<< "$1" 2> /dev/null | tail -n 1 | tr -d '"'; }

deployed() {
	[ -n "$(recorded project)" ] || die "nothing is deployed from this directory: make deploy PROJECT=... REGION=..."
}
