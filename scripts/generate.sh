#!/usr/bin/env bash
# Writes the generated files that are committed: the custom resource definition, its copies, the rendered manifests, the
# description of the REST interface.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo run --release --locked --quiet -p aitbc-operator -- crd > crds/blockchainnetworks.yaml
cargo run --release --locked --quiet -p aitbc-node -- openapi > docs/openapi.json
manifests/render.sh
