# All one can do here; CI calls `make test`. Caches live outside the checkout, under AITBC_CACHE.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
AITBC_CACHE ?= $(HOME)/.cache/aitbc
export AITBC_CACHE
export CARGO_TARGET_DIR ?= $(AITBC_CACHE)/target
STEP := scripts/step.sh
BIN := $(CARGO_TARGET_DIR)/release
# Always the whole workspace with its tests, so that each crate is compiled once: for a part of it cargo chooses other features of
# what the crates depend on.
TEST := cargo test --release --locked --workspace

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

.PHONY: devnet
devnet: ## 4 validators with SQLite on this machine; needs only cargo (MODE=poa, pos or hybrid)
	cargo run --release -p aitbc-node -- devnet $(if $(MODE),--mode $(MODE) --dir devnet-data/$(MODE))

.PHONY: demo
demo: ## From nothing to a final transaction in a real Kubernetes (CONTEXT=name: in that cluster)
	scripts/demo.sh

.PHONY: setup
setup: ## Debian packages that tests and demo need
	@$(STEP) "Debian packages" tests/cluster/setup.sh

.PHONY: build
build: ## Release binaries, and all tests
	@$(STEP) "binaries and tests" cargo build --release --locked --workspace --bins --tests

.PHONY: test
test: setup lint unit localnet cluster ## Everything; what CI runs

.PHONY: lint
lint: ## Format, lints, documentation, generated files
	@$(STEP) "rustfmt" cargo fmt --all --check
	@$(STEP) "clippy" cargo clippy --release --workspace --all-targets --locked -- -D warnings
	@$(STEP) "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps --locked -p aitbc-core -p aitbc-node -p aitbc-operator
	@$(STEP) "core is pure" scripts/check-purity.sh
	@$(STEP) "layers" scripts/check-layers.sh
	@$(MAKE) --no-print-directory build
	@$(STEP) "generated files" scripts/check-generated.sh

.PHONY: unit
unit: build ## Unit tests, storage, gossip, RPC, simulation
	@$(STEP) "unit tests" $(TEST) --lib --test decoders --test explore --test reference --test vectors --test objects --test schema
	@$(STEP) "storage on SQLite and Postgres" $(TEST) --test storage
	@$(STEP) "simulation" $(TEST) --test scenarios --test seeds

LOCALNET := $(TEST) --test localnet --
# Tests that measure pauses, rates or times, or bound them closely: each has the machine to itself. All others share it.
ALONE := catch_up:: crashes:: devnet:: doctor:: faults:: sets::boundaries:: sets::growth:: stopping:: wire_abuse::

.PHONY: localnet
localnet: build ## Real processes on this machine, SQLite and Postgres
	@$(STEP) "localnet, three at a time" $(LOCALNET) --test-threads 3 $(addprefix --skip ,$(ALONE))
	@$(STEP) "localnet, one at a time" $(LOCALNET) --test-threads 1 $(ALONE)

.PHONY: cluster
cluster: build ## A real Kubernetes: control plane and end to end
	@$(STEP) "cluster tools" tests/cluster/build-tools.sh
	@# A cluster each: one test brings its own operator and definition, the other installs the chart's.
	@$(STEP) "control plane" tests/cluster/run.sh -- $(TEST) --test control_plane
	@# One network at a time: two would not fit two cores.
	@$(STEP) "end to end" tests/cluster/run.sh -- $(TEST) --test e2e -- --test-threads 1

.PHONY: simulate
simulate: ## Seeded simulation of consensus (SEEDS=10000)
	SIM_SEEDS=$(or $(SEEDS),10000) $(TEST) --test seeds -- --nocapture

.PHONY: fuzz
fuzz: ## Ledger, trie, mempool, decoders, handshakes, requests on random input (FUZZ_CASES=10000, FUZZ_SEED=1)
	FUZZ_CASES=$(or $(FUZZ_CASES),10000) $(TEST) --test reference --test decoders -- --nocapture
	FUZZ_CASES=$(or $(FUZZ_CASES),10000) $(TEST) --lib fuzz -- --nocapture

.PHONY: explore
explore: ## Exhaustive exploration of the consensus core (EXPLORE=large: minutes, 1.5 GB)
	$(TEST) --test explore -- --nocapture --test-threads 1

.PHONY: mutate
mutate: ## Each guard of the core taken out in turn; names the test that notices (SIMULATE=10000: the first seed)
	scripts/mutate.sh

.PHONY: bench
bench: ## Throughput, finality and memory of 4 validators on this machine
	cargo build --profile dist --locked -p aitbc-node -p aitbc-tests --bin aitbc-node --bin bench
	AITBC_NODE_BIN=$(CARGO_TARGET_DIR)/dist/aitbc-node $(CARGO_TARGET_DIR)/dist/bench $(ARGS)

.PHONY: chaos
chaos: build ## Faults against real processes, the long way (ROUNDS=100); what one bad validator of four costs
	AITBC_ROUNDS=$(or $(ROUNDS),100) $(LOCALNET) faults:: crashes:: catch_up:: sets:: --include-ignored --nocapture --test-threads 1
	$(BIN)/chaos $(ARGS)

.PHONY: soak
soak: build ## A day's worth of blocks under mixed load: nothing leaks, databases grow evenly (MINUTES=30, ARGS="--csv FILE")
	$(BIN)/soak --minutes $(or $(MINUTES),30) $(ARGS)

.PHONY: outline
outline: ## What each source file is for, by its first line
	@git ls-files '*.rs' | while read -r file; do printf '%-52s %s\n' "$$file" "$$(head -n 1 "$$file" | sed 's|^//[!/] ||')"; done

.PHONY: generate
generate: ## Custom resource definition, chart copy, sample manifests
	scripts/generate.sh

.PHONY: images
images: build ## Container images from the Dockerfile, with buildah
	tests/cluster/build-images.sh --node-binary $(BIN)/aitbc-node --operator-binary $(BIN)/aitbc-operator
