#!/usr/bin/env bash
# make deploy: build the image, and make everything in infra/ as it says. It may be
# run again at any time, and goes on where it was.
#
# Terraform shows each plan and asks; YES=1 answers for you.
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

# record IMAGE writes what later commands, and Terraform by itself, go by.
record() {
	printf '{\n  "project": "%s",\n  "region": "%s",\n  "deployer": "%s",\n  "image": "%s"\n}\n' \
		"$project" "$region" "$deployer" "$1" > "$record"
}

record "$(recorded image)"
tf init -input=false > /dev/null || die "terraform init failed; its output: terraform -chdir=infra init"
new="not applied. If an API, an account or a grant is new it may not be known everywhere for some minutes: run make deploy again, it goes on where it was"

say "What a build needs"
# Terraform looks at the project by this API before it enables any.
gcloud services enable cloudresourcemanager.googleapis.com --project="$project" ||
	die "the APIs of $project cannot be enabled: are you its owner, and has it billing?"
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
	die "the build failed. If it was not allowed something and the accounts are new: grants take some minutes; run make deploy again"
digest=$(gcloud artifacts docker images describe "$image:$tag" --project="$project" --format='value(image_summary.digest)')
record "$image@$digest"

say "Everything"
apply || die "$new"

# Terraform makes the service with the image, and leaves it alone from then on.
service=$(output service)
running=$(gcloud run services describe "$service" --project="$project" --region="$region" \
	--format='value(spec.template.spec.containers[0].image)')
if [ "$running" != "$image@$digest" ]; then
	say "The new image"
	gcloud run services update "$service" --project="$project" --region="$region" --image="$image@$digest"
fi

say "Deployed. Next: $(output next)"
