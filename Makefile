# All one can do here; CI calls `make test`. Caches live outside the checkout, under AITBC_CACHE.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
AITBC_CACHE ?= $(HOME)/.cache/aitbc
export AITBC_CACHE
export CARGO_TARGET_DIR ?= $(AITBC_CACHE)/target
STEP := scripts/step.sh
BIN := $(CARGO_TARGET_DIR)/release

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

.PHONY: devnet
devnet: ## 4 validators with SQLite on this machine; needs only cargo
	cargo run --release -p aitbc-node -- devnet

.PHONY: demo
demo: ## From nothing to a final transaction in a real Kubernetes (CONTEXT=name: in that cluster)
	scripts/demo.sh

.PHONY: setup
setup: ## Debian packages that tests and demo need
	@$(STEP) "Debian packages" tests/cluster/setup.sh

.PHONY: build
build: ## Release binaries
	@$(STEP) "release binaries" cargo build --release --locked -p aitbc-node -p aitbc-operator

.PHONY: test
test: setup lint unit localnet cluster ## Everything; what CI runs

.PHONY: lint
lint: ## Format, lints, documentation, generated files
	@$(STEP) "rustfmt" cargo fmt --all --check
	@$(STEP) "clippy" cargo clippy --release --workspace --all-targets --locked -- -D warnings
	@$(STEP) "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps --locked -p aitbc-core -p aitbc-node -p aitbc-operator
	@$(STEP) "core is pure" scripts/check-purity.sh
	@$(STEP) "layers" scripts/check-layers.sh
	@$(STEP) "generated files" scripts/check-generated.sh

.PHONY: unit
unit: ## Unit tests, storage, gossip, RPC, simulation
	@$(STEP) "unit tests" cargo test --release --locked -p aitbc-core -p aitbc-node -p aitbc-operator
	@$(STEP) "storage on SQLite and Postgres" cargo test --release --locked -p aitbc-tests --lib --test storage
	@$(STEP) "simulation" cargo test --release --locked -p aitbc-sim

LOCALNET := cargo test --release --locked -p aitbc-tests --test localnet --
# Tests that measure pauses, rates or times, or bound them closely: each has the machine to itself. All others share it.
ALONE := catch_up:: crashes:: devnet:: doctor:: faults:: stopping:: wire_abuse::

.PHONY: localnet
localnet: build ## Real processes on this machine, SQLite and Postgres
	@$(STEP) "localnet, three at a time" $(LOCALNET) --test-threads 3 $(addprefix --skip ,$(ALONE))
	@$(STEP) "localnet, one at a time" $(LOCALNET) --test-threads 1 $(ALONE)

.PHONY: cluster
cluster: build ## A real Kubernetes: control plane and end to end
	@$(STEP) "cluster tools" tests/cluster/build-tools.sh
	@$(STEP) "build cluster tests" cargo test --release --locked -p aitbc-tests --test control_plane --test e2e --no-run
	@# A cluster each: one test brings its own operator and definition, the other installs the chart's.
	@$(STEP) "control plane" tests/cluster/run.sh -- cargo test --release --locked -p aitbc-tests --test control_plane
	@# One network at a time: two would not fit two cores.
	@$(STEP) "end to end" tests/cluster/run.sh -- cargo test --release --locked -p aitbc-tests --test e2e -- --test-threads 1

.PHONY: simulate
simulate: ## Seeded simulation of consensus (SEEDS=10000)
	SIM_SEEDS=$(or $(SEEDS),10000) cargo test --release --locked -p aitbc-sim --test seeds -- --nocapture

.PHONY: fuzz
fuzz: ## Ledger, trie, mempool, decoders, handshakes, requests on random input (FUZZ_CASES=10000, FUZZ_SEED=1)
	FUZZ_CASES=$(or $(FUZZ_CASES),10000) cargo test --release --locked -p aitbc-core --test reference --test decoders -- --nocapture
	FUZZ_CASES=$(or $(FUZZ_CASES),10000) cargo test --release --locked -p aitbc-node --lib fuzz -- --nocapture

.PHONY: explore
explore: ## Exhaustive exploration of the consensus core (EXPLORE=large: minutes, 1.5 GB)
	cargo test --release --locked -p aitbc-core --test explore -- --nocapture --test-threads 1

.PHONY: mutate
mutate: ## Each guard of the core taken out in turn; names the test that notices (SIMULATE=10000: the first seed)
	scripts/mutate.sh

.PHONY: bench
bench: ## Throughput, finality and memory of 4 validators on this machine
	cargo build --profile dist -p aitbc-node
	AITBC_NODE_BIN=$(CARGO_TARGET_DIR)/dist/aitbc-node cargo run --release -p aitbc-tests --bin bench -- $(ARGS)

.PHONY: chaos
chaos: build ## Faults against real processes, the long way (ROUNDS=100); what one bad validator of four costs
	AITBC_ROUNDS=$(or $(ROUNDS),100) $(LOCALNET) faults:: crashes:: catch_up:: --include-ignored --nocapture --test-threads 1
	cargo run --release --locked -p aitbc-tests --bin chaos -- $(ARGS)

.PHONY: soak
soak: build ## A day's worth of blocks under mixed load: nothing leaks, databases grow evenly (MINUTES=30, ARGS="--csv FILE")
	cargo run --release --locked -p aitbc-tests --bin soak -- --minutes $(or $(MINUTES),30) $(ARGS)

.PHONY: outline
outline: ## What each source file is for, by its first line
	@git ls-files '*.rs' | while read -r file; do printf '%-52s %s\n' "$$file" "$$(head -n 1 "$$file" | sed 's|^//[!/] ||')"; done

.PHONY: generate
generate: ## Custom resource definition, chart copy, sample manifests
	scripts/generate.sh

.PHONY: images
images: build ## Container images from the Dockerfile, with buildah
	tests/cluster/build-images.sh --node-binary $(BIN)/aitbc-node --operator-binary $(BIN)/aitbc-operator
