# `make help` lists the targets.

GO ?= go
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS := -s -w -X main.buildVersion=$(VERSION)

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/tidemark
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/tidemark ./cmd/tidemark

.PHONY: run
run: build ## Run the server, the generator and flushes on this machine, and watch them (tidemark dev)
	bin/tidemark dev

.PHONY: test
test: ## Run the tests; needs only Go and make
	TIDEMARK_EMULATORS=off $(GO) test -shuffle=on ./...

.PHONY: test-all
test-all: lint size race simulate bench-once ## Run what CI runs: lint, the binary's size, tests with the race detector and the emulators that are installed, simulations, each benchmark once

PYTHON ?= python3

.PHONY: bqemulator
bqemulator: .bqemulator/installed ## Install the BigQuery emulator that the tests use (Python 3.11 or later)

.bqemulator/installed: internal/test/emulator/bqemulator-requirements.txt
	$(PYTHON) -m venv .bqemulator
	.bqemulator/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

SEEDS ?= 500

.PHONY: simulate
simulate: ## Simulate SEEDS (500) bad days, each with a new seed
	$(GO) test ./internal/test/simulation -run 'TestSeeds' -v -seeds $(SEEDS) -timeout 0

.PHONY: race
race:
	$(GO) test -race -shuffle=on -timeout 20m ./...

.PHONY: bench-once
bench-once:
	$(GO) test -run '^$$' -bench . -benchtime 1x ./... > /dev/null

.PHONY: bench
bench: ## Run the benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./...

.PHONY: fuzz
fuzz: ## Run each fuzz test for FUZZTIME (10s)
	@set -e; for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			echo "$$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $${FUZZTIME:-10s} $$package; \
		done; \
	done

MAX_SIZE := 50000000

.PHONY: size
size: build # check the size of the stripped binary, which each new instance loads
	@bytes=$$(wc -c < bin/tidemark); if [ "$$bytes" -ge $(MAX_SIZE) ]; then \
		echo "bin/tidemark has $$bytes bytes; want less than $(MAX_SIZE)"; exit 1; \
	fi

.PHONY: lint
lint: ## Check the format and go.mod, and run vet and staticcheck
	@test -z "$$(gofmt -l .)" || { echo 'not gofmt-ed:'; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) mod tidy -diff

.PHONY: deploy
deploy: ## Build and deploy to Google Cloud: make deploy PROJECT=... REGION=... (infra/README.md)
	@scripts/deploy.sh

.PHONY: smoke
smoke: ## Test the deployment with five events, or with EVENT=..., in about five minutes
	@scripts/smoke.sh

.PHONY: destroy
destroy: ## Ask, and then delete everything that make deploy created
	@scripts/destroy.sh

.PHONY: infra-test
infra-test: ## Test infra/ with Terraform and its provider, which it downloads; calls no cloud
	terraform -chdir=infra init -backend=false -input=false > /dev/null
	terraform -chdir=infra validate
	terraform -chdir=infra test

.PHONY: infra-schema
infra-schema: ## Update infra/testdata/provider.json, after a new provider version or resource type
	terraform -chdir=infra init -backend=false -upgrade -input=false > /dev/null
	terraform -chdir=infra providers schema -json > infra/.terraform/schema.json
	$(GO) test ./infra -run TestProviderSchema -provider-schema .terraform/schema.json
