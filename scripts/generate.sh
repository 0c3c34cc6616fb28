#!/usr/bin/env bash
# Writes the generated files that are committed: the custom resource definition, its copies, the rendered manifests.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo run --release --locked --quiet -p aitbc-operator -- crd > crds/blockchainnetworks.yaml
manifests/render.sh
