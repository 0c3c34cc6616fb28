# shellcheck shell=bash
# What the scripts beside it share: where things are, progress with times, locks and cache keys. Sourced, not run.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
export AITBC_CACHE=${AITBC_CACHE:-$HOME/.cache/aitbc}
cache=$AITBC_CACHE/cluster
# shellcheck disable=SC2034 # for the scripts
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$repo/Cargo.toml" | head -n 1)

started=${EPOCHREALTIME/./}

# step WHAT: one line of progress on stderr, with the seconds since this script started.
step() {
  local now=$(((${EPOCHREALTIME/./} - started) / 10000))
  printf '[%3d.%02d s] %s\n' $((now / 100)) $((now % 100)) "$*" >&2
}

fail() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

need_root() {
  [ "$(id -u)" = 0 ] || fail "must run as root: it makes namespaces, mounts and cgroups"
}

# A short name for what is piped in.
short_hash() {
  sha256sum | cut -c1-16
}

# lock NAME: wait for whoever else does this on the machine; held until this process ends.
lock() {
  # A second descriptor on a lock this very process holds would wait for ever.
  [ "${held_lock:-}" != "$1" ] || return 0
  held_lock=$1
  mkdir -p "$cache"
  exec {lock_fd}>"$cache/$1.lock"
  if ! flock -n "$lock_fd"; then
    step "waiting: another process holds $1.lock in the cluster cache"
    flock "$lock_fd"
  fi
}

# wait_for SECONDS WHAT COMMAND…: until COMMAND succeeds; says what was awaited when it never does.
wait_for() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || { printf 'gave up waiting for %s\n' "$what" >&2; return 1; }
    sleep 0.1
  done
}

# Groups are empty once the namespaces' processes are gone, which takes the kernel a moment.
remove_cgroups() {
  local group
  for _ in $(seq 50); do
    for group in /sys/fs/cgroup/"aitbc-$1" /sys/fs/cgroup/*/"aitbc-$1"; do
      [ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
    compgen -G "/sys/fs/cgroup/aitbc-$1" >/dev/null || compgen -G "/sys/fs/cgroup/*/aitbc-$1" >/dev/null || return 0
    sleep 0.1
  done
  step "control groups of run $1 are still in use"
}

# Everything of a run but its logs goes.
clean() {
  local run=$1
  remove_cgroups "${run##*/}"
  find "$run" -mindepth 1 -maxdepth 1 ! -name log ! -name lock -exec rm -rf {} +
}
