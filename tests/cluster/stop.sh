#!/usr/bin/env bash
# Ends a cluster that `run.sh --keep [NAME]` left running: stop.sh [NAME]. Nothing but its logs stays.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

name=${1:-default}
link=$cache/kept/$name
[ -e "$link/outer.pid" ] || fail "no cluster named $name is running"
run=$(readlink -f "$link")
outer=$(cat "$run/outer.pid")
kill -TERM "$(cat "$run/inner.pid")" 2>/dev/null || true
for _ in $(seq 100); do
  kill -0 "$outer" 2>/dev/null || break
  sleep 0.1
done
kill -KILL "$outer" 2>/dev/null || true
rm -f "$link"
clean "$run"
step "the cluster $name is gone; its logs are in $run/log"
