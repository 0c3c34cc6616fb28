#!/usr/bin/env bash
# Writes the generated files that are committed: the custom resource definition, also inside the chart.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo run --release --locked --quiet -p aitbc-operator -- crd > crds/blockchainnetworks.yaml
