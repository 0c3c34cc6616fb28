#!/usr/bin/env bash
# Writes the generated files that are committed: the custom resource definition, its copies, the rendered manifests, the
# description of the REST interface.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${CARGO_TARGET_DIR:-target}/release
# As `make build` does, or cargo would compile all that the two depend on once more.
cargo build --release --locked --workspace --bins --tests
"$bin/aitbc-operator" crd > crds/blockchainnetworks.yaml
"$bin/aitbc-node" openapi > docs/openapi.json
manifests/render.sh
