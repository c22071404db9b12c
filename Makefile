# HeteroLoCo. `make` lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CACHE := $(abspath $(or $(HETEROLOCO_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/heteroloco))
LIBTORCH ?= $(CACHE)/libtorch-2.11.0-cpu
PYTHON ?= python3
VENV := $(CACHE)/bench-venv
TARGET := $(or $(CARGO_TARGET_DIR),target)
HETEROLOCO := $(TARGET)/release/heteroloco
PROGRAMS := -p cli -p coordinator -p worker
# Shards of other text go to another folder, named after the text's path.
SHARDS := runs/data$(if $(DATA),-$(shell printf %s "$(DATA)" | cksum | cut -d' ' -f1))
DELTAS := $(subst runs/data,runs/pseudo-gradients,$(SHARDS))
GENERATED := proto/src/gen crds charts/heteroloco/templates/crds charts/heteroloco/README.md
CARGO_DENY := 0.20.2
CARGO_SBOM := 0.10.0
HELM ?= helm
DOCKER ?= docker
# Where images go; the chart's values name them.
IMAGES ?= ghcr.io/heteroloco
VERSION := $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' Cargo.toml | head -n 1)

export LIBTORCH
export PATH := $(CACHE)/bin:$(PATH)
# Idle OpenMP threads sleep; spinning ones starve the other ranks of the machine.
export OMP_WAIT_POLICY ?= PASSIVE
export GOMP_SPINCOUNT ?= 0

##@ Use

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: setup
setup: ## Put libtorch into the cache folder; does nothing the second time
	@[ -e "$(LIBTORCH)/.complete" ] || $(PYTHON) scripts/setup-libtorch.py

.PHONY: build
build: setup ## Build all programs of the command line, optimised, kubectl's plugin among them
	cargo build --locked --release $(PROGRAMS) -p kubectl-island

# The client of Kubernetes is a fifth of all there is to compile, and a run on this machine needs none.
.PHONY: programs
programs: setup
	@[ -e "$(HETEROLOCO)" ] || echo "compiling the programs: some 8 minutes on two cores, the first time"
	cargo build --locked --release $(PROGRAMS)

.PHONY: data
data: programs ## Prepare the demo's text: Rust sources, or DATA=path
	@[ -e "$(SHARDS)" ] || echo "preparing text: some seconds"
	@scripts/prepare-data.sh "$(HETEROLOCO)" "$(SHARDS)" "$(DATA)"

.PHONY: demo
demo: data ## Train a small model over three emulated islands (DATA=path: on your own text)
	@scripts/demo.sh "$(HETEROLOCO)" "$(SHARDS)"

##@ Check

.PHONY: test
test: setup ## Run every test; a failing one does not end the others
	cargo build --locked --workspace --bins --tests
	@failed=; \
	cargo test --locked --workspace --no-fail-fast || failed=1; \
	$(PYTHON) -m unittest discover --start-directory scripts || failed=1; \
	[ -z "$$failed" ]

.PHONY: test-fast
test-fast: ## Run the tests of the crates that are pure functions, and the tree's own rules
	cargo test --locked -p plan -p sparseloco -p rounds -p proto -p api -p tidy

.PHONY: lint
lint: setup deny ## Check format, the tree's own rules, clippy, licences and advisories
	cargo fmt --check
	cargo test --locked -p tidy
	cargo clippy --locked --workspace --all-targets -- -D warnings

.PHONY: deny
deny: $(if $(shell PATH="$(PATH)" command -v cargo-deny),,$(CACHE)/bin/cargo-deny)
	cargo deny --locked check bans licenses sources
	if cargo deny --locked fetch db; then cargo deny --locked check advisories; \
	  else echo "deny: the advisory database is out of reach: advisories NOT checked"; fi

$(CACHE)/bin/cargo-deny:
	cargo install --locked --root "$(CACHE)" cargo-deny@$(CARGO_DENY)

.PHONY: gen
gen: ## Write the generated files again (wire types, CRDs, the chart's README)
	cargo run --locked --quiet -p proto-generate
	cargo run --locked --quiet -p api --example crds
	$(PYTHON) scripts/chart-readme.py

.PHONY: gen-check
gen-check: gen ## Fail when a generated file differs from what is committed
	@git diff --exit-code -- $(GENERATED)
	@[ -z "$$(git ls-files --others --exclude-standard -- $(GENERATED))" ]

.PHONY: chart-lint
chart-lint: ## Render the Helm chart with many values, and see that it refuses wrong ones (HELM=path)
	scripts/chart-lint.sh "$(HELM)"

.PHONY: sim
sim: ## Simulate runs under seeded faults (SEEDS=10000), or one of them with all that happens (SEED=n)
	cargo run --locked --quiet --release -p sim -- $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),10000))

.PHONY: sim-mutations
sim-mutations: ## See that the simulation finds each defect of sim/mutations, put into a copy of the tree
	@scripts/sim-mutations.sh

.PHONY: fuzz
fuzz: ## Feed the contribution decoder random bytes for FUZZ_SECONDS (60); needs a nightly Rust
	cd sparseloco && cargo +nightly fuzz run frame -- -max_total_time=$(or $(FUZZ_SECONDS),60)

##@ Kubernetes

.PHONY: cluster
cluster: ## Start a Kubernetes with GPU nodes on this machine (NODES=2) and print its KUBECONFIG
	@cargo run --locked --quiet -p test-cluster -- up --nodes $(or $(NODES),2)

.PHONY: cluster-down
cluster-down: ## End it
	@cargo run --locked --quiet -p test-cluster -- down

##@ Measure (each prints `figure NAME VALUE UNIT` lines)

.PHONY: bench
bench: $(addprefix bench-,planner codec allreduce step sharding evaluation models operator convergence) ## Run every benchmark

.PHONY: chaos
chaos: build ## Kill, freeze or cut off a process of a run every 20 s for MINUTES (10); needs iptables
	cargo run --locked --release -p bench --bin chaos -- \
	  --programs "$(TARGET)/release" --minutes $(or $(MINUTES),10)

.PHONY: bench-planner
bench-planner: ## The planner against one that looks at everything, against plans by hand, and the clock
	cargo run --locked --release -p bench --bin planner

.PHONY: bench-codec
bench-codec: $(DELTAS) ## The codec's speed and size, on pseudo-gradients of a real run
	cargo run --locked --release -p bench --bin codec -- \
	  $(foreach island,0 1 2 3,--delta $(DELTAS)/island-$(island)/model.safetensors)

$(DELTAS): | data
	@rm -rf "$@.new"
	cargo run --locked --release -p bench-training --bin pseudo-gradients -- \
	  --data "$(SHARDS)" --out "$@.new"
	@mv "$@.new" "$@"

.PHONY: bench-allreduce
bench-allreduce: bench-venv ## The gRPC ring all-reduce against PyTorch's Gloo
	cargo run --locked --release -p bench --bin bench-allreduce -- --python "$(VENV)/bin/python"

.PHONY: bench-step
bench-step: setup bench-venv ## One rank's training step against PyTorch eager
	cargo run --locked --release -p bench-training --bin step -- \
	  --python "$(VENV)/bin/python"

# What of the demo's text goes along with the programs.
GPU_PACK_TEXT_BYTES := 4000000

.PHONY: gpu-pack
gpu-pack: programs ## Put what a machine with a GPU and PyTorch measures itself with into runs/gpu-pack
	cargo build --locked --release $(PROGRAMS) -p bench -p bench-training --bins
	@rm -rf runs/gpu-pack.data
	@$(PYTHON) scripts/rust-sources.py | xargs -x -d '\n' "$(HETEROLOCO)" data prepare --tokenizer byte \
	  --max-bytes $(GPU_PACK_TEXT_BYTES) --allow-passed-over --out runs/gpu-pack.data --input
	cargo test --locked --release $(PROGRAMS) -p bench -p bench-training --test cuda \
	  --test sharded --no-run \
	  --message-format json | $(PYTHON) scripts/gpu-pack.py --target "$(TARGET)/release" \
	  --data runs/gpu-pack.data --out runs/gpu-pack
	@rm -rf runs/gpu-pack.data

.PHONY: bench-sharding
bench-sharding: data ## What cutting a model costs and loses, and whether plans say so
	cargo build --locked --release -p bench-training --bin sharding --bin memory
	"$(TARGET)/release/sharding" --data "$(SHARDS)"
	"$(TARGET)/release/memory" --programs "$(TARGET)/release" --data "$(SHARDS)"

.PHONY: bench-evaluation
bench-evaluation: build bench-venv ## Scores of `heteroloco eval` against lm-evaluation-harness
	cargo build --locked --release -p bench-training --bin random-checkpoint
	@rm -rf runs/evaluation
	"$(VENV)/bin/python" bench/evaluation.py --programs "$(TARGET)/release" --out runs/evaluation

.PHONY: bench-models
bench-models: programs bench-venv ## Folders that `model.from` takes or refuses, against transformers
	@rm -rf runs/models
	"$(VENV)/bin/python" bench/models.py --programs "$(TARGET)/release" --out runs/models

.PHONY: bench-operator
bench-operator: ## The operator with ISLANDS=1000 on NODES=10000 fake nodes of a real control plane
	cargo build --locked --release -p operator -p bench-operator
	"$(TARGET)/release/operator-bench" --nodes $(or $(NODES),10000) --islands $(or $(ISLANDS),1000)

.PHONY: bench-convergence
bench-convergence: data ## Held-out loss of SparseLoCo, DiLoCo and AdamW at equal tokens (hours)
	cargo run --locked --release -p bench-training --bin convergence -- \
	  --data "$(SHARDS)" --results runs/convergence.jsonl

.PHONY: bench-venv
bench-venv: $(VENV)/.complete ## Put PyTorch and transformers, for comparison, into the cache folder

$(VENV)/.complete: bench/requirements.txt
	$(PYTHON) -m venv "$(VENV)"
	"$(VENV)/bin/python" -m pip install --quiet -r bench/requirements.txt
	@touch "$@"

##@ Ship

.PHONY: images
images: $(addprefix image-,operator worker-cpu worker-cuda) ## Build the images (DOCKER=buildah, IMAGES=prefix, IMAGE_OPTIONS='--target prebuilt')

image-operator: TAG := heteroloco:$(VERSION)
image-worker-cpu: TAG := heteroloco-worker:$(VERSION)-cpu
image-worker-cuda: TAG := heteroloco-worker:$(VERSION)-cuda

.PHONY: image-operator image-worker-cpu image-worker-cuda
image-operator image-worker-cpu image-worker-cuda: image-%:
	$(DOCKER) build --file docker/$*.Dockerfile --tag "$(IMAGES)/$(TAG)" \
	  --build-arg VERSION="$(VERSION)" --build-arg REVISION="$$(git rev-parse HEAD)" \
	  $(IMAGE_OPTIONS) .

.PHONY: sbom
sbom: $(CACHE)/bin/cargo-sbom ## Write what the programs are made of, as SPDX
	"$(CACHE)/bin/cargo-sbom" --output-format spdx_json_2_3 > "$(TARGET)/heteroloco-$(VERSION).spdx.json"

$(CACHE)/bin/cargo-sbom:
	cargo install --locked --root "$(CACHE)" cargo-sbom@$(CARGO_SBOM)

##@ Tidy

.PHONY: clean
clean: ## Remove what was built and the demo's runs; the cache folder stays
	cargo clean
	rm -rf runs
