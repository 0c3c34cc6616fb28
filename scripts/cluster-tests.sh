#!/usr/bin/env bash
# The tests that need a Kubernetes; run inside tests/cluster/run.sh, which sets KUBECONFIG.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo test --release --locked -p aitbc-tests --test control_plane
# One network at a time: two would not fit two cores.
cargo test --release --locked -p aitbc-tests --test e2e -- --test-threads 1
