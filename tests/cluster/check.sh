#!/usr/bin/env bash
# Checks that a cluster gives what our pods rely on: run.sh -- check.sh. One line for each property, then the count.
set -uo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

passed=0
failed=0

check() {
  local what=$1 output
  shift
  if output=$("$@" 2>&1); then
    passed=$((passed + 1))
    step "ok   $what"
  else
    failed=$((failed + 1))
    step "FAIL $what: $(tail -n 5 <<<"$output")"
  fi
}

not() {
  ! "$@"
}

# eventually SECONDS COMMAND…
eventually() {
  local seconds=$1
  shift
  wait_for "$seconds" "$*" "$@"
}

k() {
  kubectl -n check "$@"
}

in_node() {
  local pod=$1
  shift
  k exec "$pod" -c node -- "$@"
}

started() {
  [ "$(k logs "$1" -c node | tail -n 1)" = started ]
}

query() {
  in_node pair-0 psql -qtA -U chain -d ledger -h "$1" -c "$2"
}

open_port() {
  timeout 3 bash -c "exec 3<>/dev/tcp/$1"
}

owned_by_group() {
  [ "$(in_node pair-0 stat -c %g /data)" = 65532 ]
}

allowed_disruptions() {
  [ "$(k get pdb pair -o jsonpath='{.status.disruptionsAllowed}')" = "$1" ]
}

privileged_pod() {
  k run bad --image=aitbc/tools:1 --privileged
}

restarted_once() {
  [ "$(k get pod pair-0 -o jsonpath='{.status.initContainerStatuses[0].restartCount}')" = 1 ] &&
    query /var/run/postgresql 'SELECT i FROM t' | grep -qx 7
}

kill_postgres() {
  local container
  container=$(k get pod pair-0 -o jsonpath='{.status.initContainerStatuses[0].containerID}')
  ctr task kill --signal SIGKILL "${container#containerd://}"
}

grown() {
  [ "$(k get pvc data-pair-0 -o jsonpath='{.status.capacity.storage}')" = 2Gi ]
}

no_volumes() {
  [ -z "$(kubectl get pv -o name)" ]
}

# shellcheck disable=SC2016 # for the shell in the pod
as_any_user() {
  k run any --rm -i --quiet --restart=Never --image=postgres:17 --overrides='{"spec": {"securityContext":
    {"runAsUser": 12345, "runAsNonRoot": true, "fsGroup": 12345, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [{"name": "any", "image": "postgres:17", "command": ["bash", "-c",
    "(docker-entrypoint.sh postgres &) && for i in $(seq 100); do psql -h /var/run/postgresql -U postgres -c \"SELECT 1\" && exit 0; sleep 0.2; done; exit 1"],
    "env": [{"name": "PGDATA", "value": "/tmp/data"}, {"name": "POSTGRES_PASSWORD", "value": "secret"}, {"name": "PGPASSWORD", "value": "secret"}],
    "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}}' -- true
}

kubectl apply -f "$here/check/pair.yaml" >/dev/null || fail "the manifests do not apply"
check "pods start: two claims each, Postgres as a native sidecar, restricted profile" eventually 90 started pair-0
check "the second pod, too" eventually 30 started pair-1
check "fsGroup owns the volume; user 65532 and user 999 write to theirs" owned_by_group
check "a pod that is not ready has a name" eventually 10 in_node pair-0 getent hosts pair-1.peers.check.svc.cluster.local
check "that name resolves outside pods, too" eventually 10 getent hosts pair-1.peers.check.svc.cluster.local
check "a Service without ready pods refuses" not open_port database.check/5432
check "no disruption is allowed while nothing is ready" eventually 10 allowed_disruptions 0
check "exec writes to a volume" in_node pair-0 touch /data/ready
check "exec writes to the other pod's volume" in_node pair-1 touch /data/ready
check "pods become ready" k wait --for=condition=Ready --timeout=20s pod/pair-0 pod/pair-1
check "one disruption is allowed" eventually 10 allowed_disruptions 1
check "a pod reaches a Service by name" eventually 10 query database 'SELECT 1'
check "a pod reaches another pod by name" query pair-1.peers 'SELECT 1'
check "a pod reaches itself through its Service" eventually 10 query database 'SELECT pg_sleep(0)'
check "the command reaches a Service by name" eventually 10 open_port database.check/5432
check "the database keeps what it is told" query /var/run/postgresql 'INSERT INTO t VALUES (7)'
check "Postgres is killed" kill_postgres
check "and is back, with its data" eventually 30 restarted_once
check "Postgres runs as any user, with a password" as_any_user
check "the restricted profile refuses a privileged pod" not privileged_pod
check "a claim grows" k patch pvc data-pair-0 -p '{"spec": {"resources": {"requests": {"storage": "2Gi"}}}}'
check "and says so" eventually 10 grown
check "deleting the namespace deletes its pods" kubectl delete namespace check --timeout=60s
check "and its volumes" eventually 20 no_volumes

printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
