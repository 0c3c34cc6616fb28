#!/usr/bin/env bash
# Runs a command in a Kubernetes cluster made for it, and takes the cluster down again.
#
#   run.sh [--node-binary PATH] [--operator-binary PATH] [--] COMMAND…
#   run.sh [--node-binary PATH] [--operator-binary PATH] --keep [NAME]     then enter.sh and stop.sh
#
# CONTEXT=NAME uses that kubectl context instead; where Docker and kind both work, kind makes the cluster; everywhere else
# the cluster is our own, in namespaces of this machine. README.md beside this file says what the command finds there.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

keep=''
binaries=()
node_binary=''
operator_binary=''
while [ $# -gt 0 ]; do
  case $1 in
    --node-binary) node_binary=$(realpath -e "$2") && binaries+=("$1" "$node_binary") && shift 2 ;;
    --operator-binary) operator_binary=$(realpath -e "$2") && binaries+=("$1" "$operator_binary") && shift 2 ;;
    --keep)
      shift
      keep=${1:-default}
      [ $# -eq 0 ] || shift
      ;;
    --) shift && break ;;
    -*) fail "unknown option $1" ;;
    *) break ;;
  esac
done
# Not named: those that `make build` left, if it did.
built=${CARGO_TARGET_DIR:-$AITBC_CACHE/target}/release
if [ -z "$node_binary" ] && [ -x "$built/aitbc-node" ]; then
  node_binary=$built/aitbc-node
  binaries+=(--node-binary "$node_binary")
fi
if [ -z "$operator_binary" ] && [ -x "$built/aitbc-operator" ]; then
  operator_binary=$built/aitbc-operator
  binaries+=(--operator-binary "$operator_binary")
fi
[ -n "$keep" ] || [ $# -gt 0 ] || fail "what shall run in the cluster? usage: run.sh [--] COMMAND…"
[ -z "$keep" ] || [ $# -eq 0 ] || fail "--keep takes a name and no command; enter.sh runs commands"

# ------------------------------------------------------------------------------------------ clusters that others have made

need_clients() {
  local program
  for program in kubectl helm; do
    command -v "$program" >/dev/null || fail "$program must be on PATH to use $1"
  done
}

in_context() {
  need_clients "the context $CONTEXT"
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  kubectl config view --raw --minify --flatten --context="$CONTEXT" >"$scratch/kubeconfig"
  export KUBECONFIG=$scratch/kubeconfig CLUSTER_KIND=context
  step "using the context $CONTEXT; it must be able to pull the images"
  "$@"
}

kind_works() {
  command -v kind >/dev/null && command -v docker >/dev/null && docker info >/dev/null 2>&1
}

in_kind() {
  need_clients kind
  local name=aitbc-$$ program binary arguments
  scratch=$(mktemp -d)
  # shellcheck disable=SC2064 # the name is known now
  trap "kind delete cluster --name $name >&2; rm -rf '$scratch'" EXIT
  export KUBECONFIG=$scratch/kubeconfig CLUSTER_KIND=kind
  kind create cluster --name "$name" --kubeconfig "$KUBECONFIG" --wait 120s >&2
  step "kind made the cluster $name"
  for program in node operator; do
    binary=${program}_binary
    mkdir -p "$scratch/$program"
    arguments=("$repo")
    if [ -n "${!binary}" ]; then
      cp "${!binary}" "$scratch/$program/aitbc-$program"
      arguments=(--build-arg BIN_SOURCE=prebuilt --build-arg BIN_DIR=. "$scratch/$program")
    fi
    docker build --target "$program" -t "aitbc/blockchain-$program:$version" -f "$repo/Dockerfile" "${arguments[@]}" >&2
    kind load docker-image --name "$name" "aitbc/blockchain-$program:$version" >&2
  done
  step "images are loaded"
  "$@"
}

# --------------------------------------------------------------------------------------------------------------- our own

# Runs that were killed too hard to clean up after themselves hold no lock any more; logs of the last ten stay.
sweep() {
  local run
  for run in "$cache"/runs/*/; do
    run=${run%/}
    [ -d "$run" ] || continue
    (
      exec 9<"$run"
      flock -n 9 || exit 0
      [ ! -e "$run/pki" ] || clean "$run"
    )
  done
  find "$cache/runs" -mindepth 1 -maxdepth 1 -type d -mmin +10 -printf '%T@ %p\n' | sort -rn | tail -n +11 | cut -d' ' -f2- |
    while read -r run; do
      flock -n "$run" rm -rf "$run" || true
    done
}

# The process inside the namespaces: unshare's child.
inner() {
  tr -d ' ' 2>/dev/null <"/proc/$1/task/$1/children" || true
}

outer=''
terminate() {
  local pid
  trap '' INT TERM HUP
  step "stopping"
  pid=$(inner "$outer")
  [ -z "$pid" ] || kill -TERM "$pid" 2>/dev/null || true
  for _ in $(seq 100); do
    kill -0 "$outer" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL "$outer" 2>/dev/null || true
  wait "$outer" 2>/dev/null || true
  clean "$run"
  exit "$1"
}

in_own() {
  need_root
  "$here/setup.sh"
  local tools images code=0
  tools=$("$here/build-tools.sh")
  images=$("$here/build-images.sh" "${binaries[@]}")
  mkdir -p "$cache/runs" "$cache/kept"
  sweep
  run=$cache/runs/$(date +%m%d-%H%M%S)-$$
  mkdir "$run"
  # Held by every process of this run: nobody takes it for an abandoned one.
  exec {run_lock}<"$run"
  flock "$run_lock"
  export AITBC_CLUSTER_STARTED=$started
  local start=(unshare --net --mount --pid --fork --kill-child --mount-proc "$here/up.sh" "$run" "$tools" "$images")

  if [ -n "$keep" ]; then
    [ ! -e "$cache/kept/$keep" ] || fail "a cluster named $keep is running; stop.sh $keep ends it"
    setsid "${start[@]}" keep </dev/null >"$run/up.log" 2>&1 &
    outer=$!
    trap 'terminate 130' INT
    trap 'terminate 143' TERM HUP
    until [ -e "$run/ready" ]; do
      kill -0 "$outer" 2>/dev/null || { cat "$run/up.log" >&2; clean "$run"; fail "the cluster did not come up"; }
      sleep 0.1
    done
    cat "$run/up.log" >&2
    echo "$outer" >"$run/outer.pid"
    inner "$outer" >"$run/inner.pid"
    ln -sfn "$run" "$cache/kept/$keep"
    step "kept as $keep: $here/enter.sh COMMAND…, $here/stop.sh"
    return 0
  fi

  # Should this script be killed outright, so is the cluster.
  setpriv --pdeathsig KILL "${start[@]}" run "$@" <&0 &
  outer=$!
  trap 'terminate 130' INT
  trap 'terminate 143' TERM HUP
  wait "$outer" || code=$?
  trap - INT TERM HUP
  clean "$run"
  step "the cluster is gone"
  return "$code"
}

if [ -n "${CONTEXT:-}" ]; then
  [ -z "$keep" ] || fail "--keep is for the cluster that this script makes, not for the context $CONTEXT"
  in_context "$@"
elif [ -z "$keep" ] && kind_works; then
  in_kind "$@"
else
  in_own "$@"
fi
