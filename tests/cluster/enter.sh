#!/usr/bin/env bash
# Runs a command in a cluster that `run.sh --keep [NAME]` left running: enter.sh [--name NAME] [--] COMMAND…
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

name=default
if [ "${1:-}" = --name ]; then
  name=$2
  shift 2
fi
[ "${1:-}" != -- ] || shift
[ $# -gt 0 ] || set -- bash
run=$(readlink -f "$cache/kept/$name")
[ -e "$run/inner.pid" ] || fail "no cluster named $name is running; run.sh --keep $name starts one"
# shellcheck disable=SC2016 # for the inner shell
exec nsenter --target "$(cat "$run/inner.pid")" --net --mount --pid -- \
  bash -c '. "$1/env"; cd "$2"; shift 2; exec "$@"' enter "$run" "$PWD" "$@"
