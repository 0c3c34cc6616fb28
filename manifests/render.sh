#!/bin/sh
# Renders manifests/base from the chart and the generated definition; HELM names the helm binary. Part of `make generate`.
set -eu
cd "$(dirname "$0")/.."
cp crds/blockchainnetworks.yaml charts/aitbc/files/crd.yaml
cp crds/blockchainnetworks.yaml manifests/base/crd.yaml
if ! command -v "${HELM:-helm}" >/dev/null; then
  echo "render.sh: no helm (HELM names it): manifests/base/operator.yaml is left as it is" >&2
  exit 0
fi
{
  echo "# The operator, its rights and its Service. Rendered from charts/aitbc by manifests/render.sh; do not edit."
  "${HELM:-helm}" template aitbc charts/aitbc --namespace aitbc-system --kube-version 1.33.0 --set crds.enabled=false |
    grep -v -E '^# Source:|helm.sh/chart:' | sed 's/managed-by: Helm/managed-by: kustomize/'
} >manifests/base/operator.yaml
