#!/usr/bin/env bash
# The core has no clock, I/O, randomness or runtime: shown by its dependencies and its text (ARCHITECTURE.md, invariants).
set -euo pipefail
cd "$(dirname "$0")/.."
if cargo tree --locked -p aitbc-core -e normal --prefix none | grep -E '^(tokio|sqlx|axum|kube|reqwest) '; then
  echo "node/core depends on a crate with effects, listed above" >&2
  exit 1
fi
if grep -rnE 'async fn|SystemTime|Instant::now|std::(fs|net|env|thread|process)' node/core/src --include='*.rs' --exclude-dir=tests; then
  echo "node/core has effects, listed above: they belong into node" >&2
  exit 1
fi
if cargo tree --locked -p aitbc-sim -e normal --prefix none | grep -E '^(tokio|sqlx|axum|kube|reqwest|rand) '; then
  echo "node/sim depends on a crate with effects, listed above" >&2
  exit 1
fi
if grep -rnE 'async fn|SystemTime|Instant::now|std::(fs|net|env|thread|process)|println!' node/sim/src --include='*.rs'; then
  echo "node/sim has effects, listed above: the seed must decide everything" >&2
  exit 1
fi
for file in $(git ls-files '*.rs'); do
  head -n 1 "$file" | grep -qE '^//[!/]' || { echo "$file: the first line must say what the file is for" >&2; exit 1; }
done
