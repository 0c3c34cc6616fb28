#!/usr/bin/env bash
# Runs one step of the build with its name before and its time after: step.sh NAME COMMAND…
set -euo pipefail
name=$1
shift
printf '\n==> %s\n' "$name"
start=$(date +%s)
if "$@"; then
  printf '==> %s: done in %d s\n' "$name" "$(($(date +%s) - start))"
else
  code=$?
  printf '==> %s: FAILED after %d s (exit code %d): %s\n' "$name" "$(($(date +%s) - start))" "$code" "$*" >&2
  exit "$code"
fi
