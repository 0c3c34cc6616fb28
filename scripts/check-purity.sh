#!/usr/bin/env bash
# The core has no clock, I/O, randomness or runtime: shown by its dependencies and its text (ARCHITECTURE.md, invariants).
set -euo pipefail
cd "$(dirname "$0")/.."

# pure CRATE FOLDER CRATES WORDS REASON: neither depends on one of the crates nor has one of the words in its text.
pure() {
  local crate=$1 folder=$2 crates=$3 words=$4 reason=$5
  if cargo tree --locked -p "$crate" -e normal --prefix none | grep -E "^($crates) "; then
    echo "$folder depends on a crate with effects, listed above" >&2
    exit 1
  fi
  if grep -rnE "$words" "$folder/src" --include='*.rs' --exclude-dir=tests; then
    echo "$folder has effects, listed above: $reason" >&2
    exit 1
  fi
}

crates='tokio|sqlx|axum|kube|reqwest'
words='async fn|SystemTime|Instant::now|std::(fs|net|env|thread|process)'
pure aitbc-core node/core "$crates" "$words" "they belong into node"
pure aitbc-sim node/sim "$crates|rand" "$words|println!" "the seed must decide everything"
for file in $(git ls-files '*.rs'); do
  head -n 1 "$file" | grep -qE '^//[!/]' || { echo "$file: the first line must say what the file is for" >&2; exit 1; }
done
