#!/usr/bin/env bash
# Installs the Debian packages that building and running the test cluster needs; does nothing where they are there.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

packages=(
  buildah ca-certificates conntrack containernetworking-plugins curl ethtool gcc iproute2 iptables jq kmod libc6-dev
  libfaketime mmdebstrap nftables nodejs openssl postgresql-15 procps python3 python3-cryptography runc socat util-linux
)

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null || true)
  [ "$status" = "install ok installed" ] || missing+=("$package")
done
command -v go >/dev/null || fail "Go 1.26 or newer must be on PATH"
if [ ${#missing[@]} -eq 0 ]; then
  step "packages: all ${#packages[@]} installed"
  exit 0
fi

need_root
lock apt
step "packages: installing ${missing[*]}"
log=$cache/setup.log
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  fail "apt-get failed; the whole output is in $log"
fi
step "packages: installed"
