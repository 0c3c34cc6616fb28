#!/usr/bin/env bash
# From nothing to a final transaction in a real Kubernetes, each step with its time. CONTEXT=name: in that cluster of yours.
#
#   demo.sh            builds what is missing, makes a cluster (or uses CONTEXT), installs, applies, transfers, tells what to try
#   demo.sh --steps    only the part that runs inside: KUBECONFIG says where
set -euo pipefail
cd "$(dirname "$0")/.."
export AITBC_CACHE=${AITBC_CACHE:-$HOME/.cache/aitbc}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$AITBC_CACHE/target}
network=devnet
namespace=${NAMESPACE:-default}
operator_namespace=aitbc-system
cluster=demo

bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'
[ -t 1 ] || bold='' dim='' plain=''
started=${AITBC_DEMO_STARTED:-$(date +%s%N)}
export AITBC_DEMO_STARTED=$started

# Seconds since an instant in nanoseconds.
since() {
  local tenths=$((($(date +%s%N) - $1) / 100000000))
  printf '%d.%d' $((tenths / 10)) $((tenths % 10))
}

# step WHAT COMMAND…: one line before, one after with the time; the command's output only if it fails.
step() {
  local what=$1 begun log
  shift
  begun=$(date +%s%N)
  log=$(mktemp)
  printf '%s▸ %s%s\n' "$bold" "$what" "$plain"
  if ! "$@" >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    printf '✗ %s failed after %s s\n' "$what" "$(since "$begun")" >&2
    exit 1
  fi
  rm -f "$log"
  printf '  %sdone in %s s%s\n' "$dim" "$(since "$begun")" "$plain"
}

# loud WHAT COMMAND…: a long step that shows what it does.
loud() {
  local what=$1 begun
  shift
  begun=$(date +%s%N)
  printf '%s▸ %s%s\n' "$bold" "$what" "$plain"
  "$@" 2>&1 | sed -u "s/^/    /"
  printf '  %sdone in %s s%s\n' "$dim" "$(since "$begun")" "$plain"
}

k() {
  kubectl --namespace "$namespace" "$@"
}

# node COMMAND…: the node's command line, inside the first validator's pod.
node() {
  k exec "$network-validator-0" --container validator -- aitbc-node "$@"
}

# ------------------------------------------------------------------------------------------------------- inside the cluster

# The condition Ready, told anew each time it changes.
ready_with_progress() {
  local last='' now deadline=$((SECONDS + 240))
  until k wait --for=condition=Ready "bcn/$network" --timeout=0s >/dev/null 2>&1; do
    now=$(k get "bcn/$network" -o 'jsonpath={.status.validators.summary}{" ready: "}{.status.conditions[?(@.type=="Ready")].message}' 2>/dev/null || true)
    [ "$now" = "$last" ] || [ -z "$now" ] || printf '    %s%s%s\n' "$dim" "$now" "$plain"
    last=$now
    if [ "$SECONDS" -gt "$deadline" ]; then
      k describe "bcn/$network" >&2
      k get pods -o wide >&2
      return 1
    fi
    read -rt 0.3 <> <(:) || true
  done
}

transfer() {
  local key=/tmp/demo-$$.pem rpc=http://$network-rpc:9080 to=0x4242424242424242424242424242424242424242 begun i
  node keys generate --out "$key" >/dev/null
  node tx faucet --rpc "$rpc" --key "$key" --amount 1000 --wait final >/dev/null
  begun=$(date +%s%N)
  node tx transfer --rpc "$rpc" --key "$key" --to "$to" --amount 5 --wait final | sed 's/^/    /'
  printf '    %ssigned, sent through the Service %s-rpc and final after %s s, kubectl exec included%s\n' "$dim" "$network" "$(since "$begun")" "$plain"
  for i in 0 1 2 3; do
    printf '    validator %d: ' "$i"
    k exec "$network-validator-$i" --container validator -- aitbc-node query balance "$to" --output json | tr -s ' \n' ' '
    printf '\n'
  done
}

look_into_postgres() {
  k exec "$network-validator-1" --container postgres -- psql -h /var/run/postgresql -U aitbc -d blockchain -c \
    'SELECT height, slot, tx_count, left(digest, 18) AS digest FROM ledger.blocks ORDER BY height DESC LIMIT 3'
}

inside() {
  step "install the operator: helm install aitbc charts/aitbc" helm upgrade --install aitbc charts/aitbc \
    --namespace "$operator_namespace" --create-namespace --wait --timeout 3m
  step "one apply: kubectl apply -f manifests/samples/devnet.yaml" k apply -f manifests/samples/devnet.yaml
  printf '%s▸ four validators come up: kubectl wait --for=condition=Ready bcn/%s%s\n' "$bold" "$network" "$plain"
  local begun
  begun=$(date +%s%N)
  ready_with_progress
  printf '  %sdone in %s s%s\n' "$dim" "$(since "$begun")" "$plain"
  loud "a transfer: signed, sent through the RPC Service, final, the same balance on all four" transfer
  loud "what Postgres of validator 1 says of it" look_into_postgres
  printf '\n%sFrom nothing to a final transaction in %s s.%s\n\n' "$bold" "$(since "$started")" "$plain"
  k get bcn "$network"
  k get pods
}

# -------------------------------------------------------------------------------------------------------------- from outside

what_to_try() {
  local enter=$1
  cat <<X

${bold}Running:${plain} the operator in namespace $operator_namespace, network "$network" with four validators, each with its Postgres, in
namespace $namespace. RPC http://$network-rpc.$namespace:9080, WebSocket ws://$network-rpc.$namespace:9081/ws, in the cluster.

${bold}Try:${plain}
  ${enter}kubectl get bcn -w                                      # height and validators as they change
  ${enter}kubectl delete pod $network-validator-2                    # it comes back, catches up, signs; the chain does not stop
  ${enter}kubectl explain bcn.spec                                # every field
  ${enter}kubectl patch bcn $network --type merge -p '{"spec":{"validators":{"pod":{"env":[{"name":"LOG_LEVEL","value":"debug"}]}}}}'
                                                          # rolls one validator at a time
  ${enter}kubectl exec $network-validator-0 -c postgres -- psql -h /var/run/postgresql -U aitbc blockchain -c 'SELECT * FROM state.accounts'
X
}

build() {
  cargo build --release --locked -p aitbc-node -p aitbc-operator
}

if [ "${1:-}" = --steps ]; then
  inside
  exit 0
fi

if [ -n "${CONTEXT:-}" ]; then
  tests/cluster/run.sh -- scripts/demo.sh --steps
  what_to_try ''
  printf '\nEnd it: kubectl delete bcn %s; helm uninstall aitbc -n %s\n' "$network" "$operator_namespace"
  exit 0
fi

step "packages that Debian has: tests/cluster/setup.sh" tests/cluster/setup.sh
loud "build node and operator: cargo build --release" build
if [ -e "$AITBC_CACHE/cluster/kept/$cluster" ]; then
  step "the cluster of an earlier demo goes: tests/cluster/stop.sh $cluster" tests/cluster/stop.sh "$cluster"
fi
loud "a real Kubernetes in namespaces of its own: tests/cluster/run.sh" tests/cluster/run.sh \
  --node-binary "$CARGO_TARGET_DIR/release/aitbc-node" --operator-binary "$CARGO_TARGET_DIR/release/aitbc-operator" --keep "$cluster"
tests/cluster/enter.sh --name "$cluster" -- scripts/demo.sh --steps
what_to_try "tests/cluster/enter.sh --name $cluster -- "
printf '\nEnd it: tests/cluster/stop.sh %s\n' "$cluster"
