#!/usr/bin/env bash
# Fails where a committed generated file differs from what is generated now.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/generate.sh
git diff --exit-code -- crds charts docs/openapi.json manifests || {
  echo "generated files differ: run \"make generate\" and commit" >&2
  exit 1
}
