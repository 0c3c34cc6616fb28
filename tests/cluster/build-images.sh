#!/usr/bin/env bash
# Makes every image that the test cluster runs, from Debian packages, Go modules and our own Dockerfile, and prints the
# folder that holds them, ready for containerd. What has not changed is not made again.
#
#   build-images.sh [--node-binary PATH] [--operator-binary PATH]
#
# Without a binary its image is left out.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

node_binary=''
operator_binary=''
while [ $# -gt 0 ]; do
  case $1 in
    --node-binary) node_binary=$(realpath -e "$2") ;;
    --operator-binary) operator_binary=$(realpath -e "$2") ;;
    *) fail "unknown argument $1" ;;
  esac
  shift 2
done

need_root
tools=$("$here/build-tools.sh")
store=$cache/images
mkdir -p "$store"
suite=bookworm

# What a program linked against Debian's C library needs, as in the distroless image that the Dockerfile names.
runtime_packages=base-files,ca-certificates,libc6,libgcc-s1,netbase,tzdata
services_packages=base-files,bash,ca-certificates,coreutils,curl,dash,findutils,grep,libc-bin,libnss-wrapper,netbase,postgresql-15,postgresql-client-15,sed,tzdata,util-linux
excluded=(
  '/usr/share/doc/*' '/usr/share/man/*' '/usr/share/locale/*' '/usr/share/info/*' '/usr/share/perl*' '/usr/lib/*/perl*'
  '/usr/lib/*/libLLVM*' '/usr/lib/llvm-*' '/usr/lib/postgresql/*/lib/llvmjit*' '/usr/lib/postgresql/*/lib/bitcode/*'
)

own_buildah() {
  buildah --root "$cache/buildah" --runroot "$cache/buildah-run" --storage-driver overlay "$@"
}

# What buildah leaves mounted, also after a build that was cut short. Only with the images lock held.
release_mounts() {
  own_buildah rm --all >/dev/null 2>&1 || true
  { findmnt -rno TARGET | grep "^$cache/buildah" || true; } | sort -r | xargs -r umount
}

# quietly LOG COMMAND…: the command's output is shown only if it fails.
quietly() {
  local log=$1
  shift
  if ! "$@" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    fail "$1 failed; the whole output is in $log"
  fi
}

# rootfs NAME PACKAGES: Debian packages unpacked, nothing of them run; prints the archive.
rootfs() {
  local name=$1 packages=$2 archive key
  key=$(printf '%s\n' "$suite" "$packages" "${excluded[@]}" | short_hash)
  archive=$store/rootfs-$name-$key.tar
  if [ ! -e "$archive" ]; then
    step "$name: unpacking Debian packages"
    quietly "$store/rootfs-$name.log" mmdebstrap --format=tar --variant=extract --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
      --include="$packages" "$suite" "$archive.whole"
    mmtarfilter "${excluded[@]/#/--path-exclude=}" <"$archive.whole" >"$archive.part"
    rm "$archive.whole"
    mv "$archive.part" "$archive"
  fi
  printf '%s\n' "$archive"
}

# image TARGET NAME ARCHIVE ARGUMENT…: builds one target and writes it as an archive that containerd imports.
image() {
  local target=$1 name=$2 archive=$3
  shift 3
  step "$name: building"
  quietly "$store/build-$target.log" own_buildah bud --isolation chroot --pull=never --target "$target" --tag "$name" "$@"
  rm -f "$archive.part"
  quietly "$store/push-$target.log" own_buildah push "$name" "docker-archive:$archive.part:$name"
  mv "$archive.part" "$archive"
}

# prepare FOLDER ARCHIVE…: a containerd root with these images imported and unpacked.
prepare() {
  local root=$1
  shift
  # shellcheck disable=SC2016 # for the inner shell
  unshare --net --mount --pid --fork --kill-child --mount-proc bash -euc '
    root=$1 tools=$2 here=$3
    shift 3
    export PATH=$tools/bin:$PATH CONTAINERD_ADDRESS=/run/containerd/containerd.sock CONTAINERD_NAMESPACE=k8s.io
    mkdir -p /run/containerd
    mount -t tmpfs tmpfs /run/containerd
    "$here/containerd-config.sh" "$root" >"$root.toml"
    containerd -c "$root.toml" >"$root.log" 2>&1 &
    for _ in $(seq 100); do ctr version >/dev/null 2>&1 && break; sleep 0.1; done
    for archive in "$@"; do ctr images import --local "$archive"; done
    kill %1
    wait %1 || true
  ' prepare "$root" "$tools" "$here" "$@"
}

third_party_key=$(
  {
    cat "$here"/images/* "$here/containerd-config.sh" "$here/build-images.sh"
    readlink -f "$tools/bin/containerd" "$tools/bin/prometheus" "$tools/bin/prometheus-operator"
  } | short_hash
)
third_party=$store/third-party-$third_party_key
make_third_party() (
  lock images
  [ ! -e "$third_party" ] || return 0
  part=$third_party.part
  rm -rf "$part"
  mkdir -p "$part/containerd" "$part/context"
  cp "$here"/images/* "$part/context/"
  runtime=$(rootfs runtime "$runtime_packages")
  services=$(rootfs services "$services_packages")
  ln "$runtime" "$part/context/runtime.tar"
  ln "$services" "$part/context/services.tar"
  tar -xOf "$runtime" --wildcards './usr/share/ca-certificates/mozilla/*.crt' >"$part/context/ca-certificates.crt"
  gcc -static -Os -s -o "$part/context/pause" "$here/images/pause.c"
  cp -L "$tools"/bin/{prometheus,prometheus-operator,prometheus-config-reloader} "$part/context/"

  archives=()
  while read -r target name; do
    image "$target" "$name" "$part/$target.tar" --layers -f "$part/context/Dockerfile" "$part/context"
    archives+=("$part/$target.tar")
  done <<X
pause docker.io/aitbc/pause:1
runtime docker.io/aitbc/runtime:1
postgres docker.io/library/postgres:17
tools docker.io/aitbc/tools:1
prometheus docker.io/aitbc/prometheus:v3.7.3
prometheus-operator docker.io/aitbc/prometheus-operator:v0.85.0
prometheus-config-reloader docker.io/aitbc/prometheus-config-reloader:v0.85.0
X
  release_mounts
  step "third-party images: importing"
  quietly "$store/prepare.log" prepare "$part/containerd" "${archives[@]}"
  rm -rf "$part/context" "$part"/*.tar
  mv "$part" "$third_party"
  step "third-party images: ready"
)
[ -e "$third_party" ] || make_third_party

# ours PROGRAM BINARY: the real Dockerfile's target with this binary; prints the archive.
ours() {
  local program=$1 binary=$2 key archive context
  key=$({ printf '%s\n' "$version" "$third_party_key"; cat "$repo/Dockerfile" "$binary"; } | short_hash)
  archive=$store/$program-$key.tar
  if [ ! -e "$archive" ]; then
    lock images
    context=$(mktemp -d "$store/context.XXXXXX")
    mkdir "$context/bin"
    ln "$binary" "$context/bin/aitbc-$program" 2>/dev/null || cp "$binary" "$context/bin/aitbc-$program"
    image "$program" "docker.io/aitbc/blockchain-$program:$version" "$archive" --build-arg BIN_SOURCE=prebuilt \
      --build-arg BIN_DIR=bin --build-arg RUNTIME_IMAGE=docker.io/aitbc/runtime:1 -f "$repo/Dockerfile" "$context"
    release_mounts
    rm -r "$context"
    # Each build of a program makes an archive; those of the last few are enough.
    find "$store" -maxdepth 1 -name "$program-*.tar" -printf '%T@ %p\n' | sort -rn | tail -n +4 | cut -d' ' -f2- | xargs -r rm --
  fi
  printf '%s\n' "$archive"
}

own=()
[ -z "$node_binary" ] || own+=("$(ours node "$node_binary")")
[ -z "$operator_binary" ] || own+=("$(ours operator "$operator_binary")")
set=$store/set-$(printf '%s\n' "$third_party" "${own[@]}" | short_hash)
if [ ! -e "$set" ]; then
  part=$set.$$
  mkdir -p "$part/own"
  ln -s "$third_party/containerd" "$part/containerd"
  [ ${#own[@]} = 0 ] || ln "${own[@]}" "$part/own/"
  mv -T "$part" "$set" 2>/dev/null || rm -rf "$part"
  find "$store" -maxdepth 1 -name 'set-*' ! -path "$set" -mmin +720 -exec rm -rf {} +
fi
printf '%s\n' "$set"
