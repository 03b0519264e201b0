#!/usr/bin/env bash
# make deploy builds the image and applies infra/. You may run it again at any time: it
# continues from where it stopped.
#
# Terraform shows each plan and asks; with YES=1 it does not ask.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
need terraform gcloud git

project=${PROJECT:-$(recorded project)}
region=${REGION:-$(recorded region)}
if [ -z "$project" ] || [ -z "$region" ]; then
	die "usage: make deploy PROJECT=my-project REGION=us-central1"
fi
for name in project region; do
	was=$(recorded "$name")
	[ -z "$was" ] || [ "$was" = "${!name}" ] ||
		die "this directory is deployed to $name $was: make destroy first, or deploy from another clone"
done

account=$(gcloud config get-value account 2> /dev/null)
[ -n "$account" ] || die "not logged in: gcloud auth login && gcloud auth application-default login"
case $account in
*.gserviceaccount.com) deployer=serviceAccount:$account ;;
*) deployer=user:$account ;;
esac

# record IMAGE writes the file that later commands and Terraform read.
record() {
	printf '{\n  "project": "%s",\n  "region": "%s",\n  "deployer": "%s",\n  "image": "%s"\n}\n' \
		"$project" "$region" "$deployer" "$1" > "$record"
}

record "$(recorded image)"
tf_init
new="not everything was applied. A new API, account or grant can take some minutes to work everywhere: run make deploy again, it continues from here"

# Terraform would create the tables that a wrong pipeline file says.
file=$(variable var.pipeline_file)
if [ -n "$file" ]; then
	say "The pipeline file"
	need go
	settings=$(variable 'join(" ", formatlist("%s=%s", keys(var.settings), values(var.settings)))')
	# shellcheck disable=SC2086 # no setting has a space in its value
	(cd infra && env $settings go run ../cmd/tidemark check --backend local --pipeline-file "$file" | sed -n '/pipeline file/p') ||
		die "the pipeline file is wrong, or a setting does not fit it; nothing was applied"
fi

say "What a build needs"
# Terraform needs this API before it can enable the others.
gcloud services enable cloudresourcemanager.googleapis.com --project="$project" ||
	die "cannot enable the APIs of $project: are you an owner of the project, and does it have billing?"
apply \
	-target=google_project_service.this \
	-target=google_artifact_registry_repository_iam_member.builder_writes_images \
	-target=google_storage_bucket_iam_member.builder_reads_source \
	-target=google_project_iam_member.builder_logs ||
	die "$new"

say "The image"
tag=$(git describe --tags --always --dirty)
image=$(output repository)/tidemark
gcloud builds submit . --project="$project" --config=cloudbuild.yaml --substitutions="_IMAGE=$image:$tag" \
	--service-account="$(output builder)" --gcs-source-staging-dir="$(output build_bucket)/source" ||
	die "the build failed. If a permission was missing and the accounts are new, run make deploy again: a new grant can take some minutes to work"
digest=$(gcloud artifacts docker images describe "$image:$tag" --project="$project" --format='value(image_summary.digest)')
record "$image@$digest"

say "Everything"
apply || die "$new"

# Terraform sets the image when it creates the service, and never changes it later.
service=$(output service)
running=$(gcloud run services describe "$service" --project="$project" --region="$region" \
	--format='value(spec.template.spec.containers[0].image)')
if [ "$running" != "$image@$digest" ]; then
	say "The new image"
	gcloud run services update "$service" --project="$project" --region="$region" --image="$image@$digest"
fi

say "Deployed. Next: $(output next)"
