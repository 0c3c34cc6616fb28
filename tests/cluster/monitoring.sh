#!/usr/bin/env bash
# Installs Prometheus and its operator into the cluster that run.sh made, and waits until Prometheus scrapes a target.
# It answers at http://prometheus.monitoring:9090, from pods and from the command that run.sh runs.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

[ "${CLUSTER_KIND:-}" = own ] || fail "the images of this monitoring are only in the cluster that run.sh makes itself"

scrapes() {
  curl -sf --max-time 2 'http://prometheus.monitoring:9090/api/v1/query?query=up' | jq -e '.data.result | length > 0'
}

kubectl apply --server-side -f "$CLUSTER_TOOLS/crds/" >/dev/null
kubectl wait --for=condition=Established --timeout=30s -f "$CLUSTER_TOOLS/crds/" >/dev/null
step "monitoring: definitions are established"
kubectl apply -f "$here/monitoring" >/dev/null
kubectl -n monitoring rollout status deployment/prometheus-operator --timeout=60s >/dev/null
step "monitoring: the operator runs"
kubectl -n monitoring wait --for=condition=Available --timeout=90s prometheus/test >/dev/null
step "monitoring: Prometheus is available"
wait_for 60 "Prometheus to scrape a target" scrapes
step "monitoring: Prometheus scrapes"
