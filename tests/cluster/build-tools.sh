#!/usr/bin/env bash
# Builds Kubernetes, containerd, CoreDNS, Helm and the other programs from the Go modules in tools/, each once for each
# state of its module, and prints the folder that holds them all. About 15 minutes on two cores when nothing is cached.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

kubernetes_version=v1.36.3

# Module | packages to build | flags for the linker.
modules=(
  "kubernetes|. ./coredns|-X k8s.io/component-base/version.gitVersion=$kubernetes_version -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36"
  "containerd|github.com/containerd/containerd/v2/cmd/containerd github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2 github.com/containerd/containerd/v2/cmd/ctr|-X github.com/containerd/containerd/v2/version.Version=v2.2.1"
  "helm|helm.sh/helm/v3/cmd/helm|-X helm.sh/helm/v3/internal/version.version=v3.22.0"
  "kubeconform|github.com/yannh/kubeconform/cmd/kubeconform|"
  "prometheus-operator|github.com/prometheus-operator/prometheus-operator/cmd/operator github.com/prometheus-operator/prometheus-operator/cmd/prometheus-config-reloader|"
)
# Prometheus' own program links two dozen service discoveries; this one only finds what is in Kubernetes.
modules+=("prometheus|./prometheus|-X github.com/prometheus/common/version.Version=3.7.3")
components=(etcd kubectl kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy volume-provisioner)

# The folder holding a module's programs; its name changes with the module's files and with how it is built.
folder_of() {
  local entry=$1 module=${1%%|*}
  printf '%s/tools/%s-%s\n' "$cache" "$module" \
    "$({ printf '%s\n' "$entry" "${components[@]}"; find "$here/tools/$module" -type f | LC_ALL=C sort | xargs cat; } | short_hash)"
}

# prometheus_program MODULE: the released program with one import changed.
prometheus_program() {
  local module=$1 released
  (cd "$module" && go mod download github.com/prometheus/prometheus)
  released=$(cd "$module" && go list -m -f '{{.Dir}}' github.com/prometheus/prometheus)
  mkdir "$module/prometheus"
  sed 's#prometheus/prometheus/plugins"#prometheus/prometheus/discovery/kubernetes"#' "$released/cmd/prometheus/main.go" \
    >"$module/prometheus/main.go"
}

build() {
  local module=$1 packages=$2 flags=$3 out=$4 part=$4.part log=$cache/tools/$1.log
  rm -rf "$part"
  mkdir -p "$part/bin"
  cp -r "$here/tools/$module" "$part/source"
  step "$module: building (log: $log)"
  if [ "$module" = prometheus ]; then
    prometheus_program "$part/source" >"$log" 2>&1 || { tail -n 20 "$log" >&2; fail "Prometheus' module does not download"; }
  fi
  # Building is for whoever has time: the machine's other work goes first.
  # shellcheck disable=SC2086 # packages are words
  if ! (cd "$part/source" &&
    CGO_ENABLED=0 GOFLAGS=-buildvcs=false nice -n 5 \
      go build -mod=readonly -trimpath -ldflags "-s -w $flags" -o "$part/bin/" $packages) >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    fail "$module does not build"
  fi
  case $module in
    kubernetes)
      for component in "${components[@]}"; do
        ln -s kubernetes "$part/bin/$component"
      done
      ;;
    prometheus-operator)
      mv "$part/bin/operator" "$part/bin/prometheus-operator"
      # The definitions ship with the module: what this version reads is what gets installed.
      local source
      source=$(cd "$here/tools/$module" && go list -m -f '{{.Dir}}' github.com/prometheus-operator/prometheus-operator)
      install -m 644 -D -t "$part/crds" "$source"/example/prometheus-operator-crd/*.yaml
      ;;
  esac
  rm -rf "$part/source"
  mv "$part" "$out"
  step "$module: built"
}

all=$cache/tools/all-$(for entry in "${modules[@]}"; do folder_of "$entry"; done | short_hash)
if [ ! -e "$all/bin" ]; then
  lock tools
  mkdir -p "$all.part/bin"
  for entry in "${modules[@]}"; do
    IFS='|' read -r module packages flags <<<"$entry"
    folder=$(folder_of "$entry")
    [ -e "$folder" ] || build "$module" "$packages" "$flags" "$folder"
    ln -sf "$folder"/bin/* "$all.part/bin/"
    [ ! -e "$folder/crds" ] || ln -sfn "$folder/crds" "$all.part/crds"
  done
  rm -rf "$all"
  mv "$all.part" "$all"
fi
printf '%s\n' "$all"
