#!/usr/bin/env bash
# The cluster itself: started by run.sh as process 1 of fresh net, mount and pid namespaces, brings Kubernetes up and runs
# a command in it. When it ends, the kernel ends everything that it started.
#
#   up.sh RUN TOOLS IMAGES run COMMAND…    run COMMAND, then stop
#   up.sh RUN TOOLS IMAGES keep            stay until told to stop
#
# RUN is this cluster's own folder, TOOLS and IMAGES are what build-tools.sh and build-images.sh printed.
# shellcheck disable=SC2317 # wait_for and traps call what looks unused
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

run=$1 tools=$2 images=$3 mode=$4
shift 4
id=${run##*/}
started=${AITBC_CLUSTER_STARTED:-$started}

node=node1
node_address=10.88.0.1
pods=10.88.0.0/16
services=10.96.0.0/16
api_address=10.96.0.1
dns_address=10.96.0.10
server=https://127.0.0.1:6443
pki=$run/pki
log=$run/log
cgroup=aitbc-$id

export PATH=$tools/bin:$PATH
export KUBECONFIG=$pki/admin.kubeconfig
export CONTAINERD_ADDRESS=/run/containerd/containerd.sock CONTAINERD_NAMESPACE=k8s.io

# ---------------------------------------------------------------------------------------------------------- this namespace

# Fixed paths that the kubelet, containerd and CNI write to: ours alone, on the run folder's disk.
private_folders() {
  local path
  for path in /var/lib/cni /var/lib/kubelet /var/log/pods /var/log/containers /run/containerd /run/netns /opt/cni; do
    mkdir -p "$path" "$run/host$path"
    mount --bind "$run/host$path" "$path"
  done
}

network() {
  sysctl -qw net.ipv4.ip_forward=1
  ip link set lo up
  # The node's own address stands on a bridge without ports: it needs no driver beyond those that pods need.
  ip link add node0 type bridge
  ip address add "$node_address/32" dev node0
  ip link set node0 up
  # Services have no interface; without a route their addresses would be unreachable before kube-proxy could rewrite them.
  ip route add "$services" dev node0 src "$node_address"
}

# The kubelet keeps its pods below a group of this run's own, so that it never takes another run's pods for strays.
cgroups() {
  local controller parent
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    for controller in cpuset cpu memory pids; do
      echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null || true
    done
    mkdir -p "/sys/fs/cgroup/$cgroup"
    for controller in cpuset cpu memory pids; do
      echo "+$controller" >"/sys/fs/cgroup/$cgroup/cgroup.subtree_control"
    done
  else
    for parent in /sys/fs/cgroup/*/; do
      parent=${parent%/}
      [ -L "$parent" ] || [ ! -w "$parent/cgroup.procs" ] || mkdir -p "$parent/$cgroup"
    done
    # A new cpuset takes no process until it is told its processors.
    if [ -e /sys/fs/cgroup/cpuset/cpuset.cpus ]; then
      cat /sys/fs/cgroup/cpuset/cpuset.cpus >"/sys/fs/cgroup/cpuset/$cgroup/cpuset.cpus"
      cat /sys/fs/cgroup/cpuset/cpuset.mems >"/sys/fs/cgroup/cpuset/$cgroup/cpuset.mems"
    fi
  fi
}

# ------------------------------------------------------------------------------------------------------------- certificates

certificate() {
  local name=$1 subject=$2 names=$3
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$subject" \
    -keyout "$pki/$name.key" -out "$pki/$name.csr" 2>/dev/null
  openssl x509 -req -in "$pki/$name.csr" -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -CAcreateserial -days 30 \
    -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth' "$names") -out "$pki/$name.crt" 2>/dev/null
}

kubeconfig() {
  cat >"$pki/$1.kubeconfig" <<X
apiVersion: v1
kind: Config
current-context: test
contexts: [{name: test, context: {cluster: test, user: $1}}]
clusters:
- name: test
  cluster: {server: "$server", certificate-authority-data: "$(base64 -w0 "$pki/ca.crt")"}
users:
- name: $1
  user: {client-certificate-data: "$(base64 -w0 "$pki/$1.crt")", client-key-data: "$(base64 -w0 "$pki/$1.key")"}
X
}

certificates() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=test-cluster \
    -keyout "$pki/ca.key" -out "$pki/ca.crt" 2>/dev/null
  certificate apiserver /CN=kube-apiserver \
    "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,IP:127.0.0.1,IP:$api_address,IP:$node_address"
  certificate admin /O=system:masters/CN=admin DNS:admin
  certificate controller-manager /CN=system:kube-controller-manager DNS:controller-manager
  certificate scheduler /CN=system:kube-scheduler DNS:scheduler
  certificate kubelet "/O=system:nodes/CN=system:node:$node" "DNS:$node,IP:$node_address"
  certificate proxy /CN=system:kube-proxy DNS:proxy
  openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$pki/service-accounts.key" 2>/dev/null
  openssl pkey -in "$pki/service-accounts.key" -pubout -out "$pki/service-accounts.pub"
  local user
  for user in admin controller-manager scheduler kubelet proxy; do
    kubeconfig "$user"
  done
}

# --------------------------------------------------------------------------------------------------------------- components

# component NAME COMMAND…: in the background and in a session of its own, so that Ctrl-C reaches only COMMAND.
component() {
  local name=$1
  shift
  setsid "$@" >"$log/$name.log" 2>&1 </dev/null &
  printf '%s\n' $! >"$run/$name.pid"
}

store() {
  component etcd etcd --data-dir "$run/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380
}

api_server() {
  component kube-apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 \
    --advertise-address="$node_address" --endpoint-reconciler-type=lease \
    --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" --client-ca-file="$pki/ca.crt" \
    --service-account-key-file="$pki/service-accounts.pub" \
    --service-account-signing-key-file="$pki/service-accounts.key" \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local --service-cluster-ip-range="$services" \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
    --kubelet-certificate-authority="$pki/ca.crt" --kubelet-client-certificate="$pki/admin.crt" \
    --kubelet-client-key="$pki/admin.key" --requestheader-client-ca-file="$pki/ca.crt" \
    --requestheader-allowed-names=front-proxy --kubelet-preferred-address-types=InternalIP
}

# Its start-up hooks write the roles and the ConfigMap that the controller manager cannot do without.
api_ready() {
  curl -sf --max-time 2 --cacert "$pki/ca.crt" --cert "$pki/admin.crt" --key "$pki/admin.key" "$server/readyz" &&
    kubectl -n kube-system get configmap extension-apiserver-authentication
}

controllers() {
  component kube-controller-manager kube-controller-manager --kubeconfig="$pki/controller-manager.kubeconfig" \
    --authentication-kubeconfig="$pki/controller-manager.kubeconfig" \
    --authorization-kubeconfig="$pki/controller-manager.kubeconfig" \
    --service-account-private-key-file="$pki/service-accounts.key" --root-ca-file="$pki/ca.crt" \
    --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" \
    --use-service-account-credentials --leader-elect=false --node-monitor-grace-period=20s
  component kube-scheduler kube-scheduler --kubeconfig="$pki/scheduler.kubeconfig" \
    --authentication-kubeconfig="$pki/scheduler.kubeconfig" \
    --authorization-kubeconfig="$pki/scheduler.kubeconfig" --leader-elect=false
  component volume-provisioner volume-provisioner --kubeconfig="$KUBECONFIG" --folder="$run/volumes" --node="$node"
}

container_runtime() {
  # Links, not copies: layers and snapshots are only ever read, the databases are small.
  mkdir -p "$run/containerd"
  cp -al "$images/containerd/." "$run/containerd/"
  local database
  while read -r database; do
    cp --remove-destination "$images/containerd/$database" "$run/containerd/$database"
  done < <(cd "$images/containerd" && find . -name '*.db')
  "$here/containerd-config.sh" "$run/containerd" >"$run/containerd.toml"
  mkdir -p "$run/cni"
  # Point to point, not a bridge: all traffic is routed by the node, so Services work without the br_netfilter module.
  cat >"$run/cni/10-pods.conflist" <<X
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "ptp", "ipMasq": false, "ipam": {"type": "host-local",
    "ranges": [[{"subnet": "$pods", "rangeStart": "10.88.1.0", "gateway": "$node_address"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
X
  ln -sfn "$run/cni" "$run/host/opt/cni/net.d"
  component containerd containerd -c "$run/containerd.toml"
}

import_images() {
  local image
  wait_for 30 containerd ctr version
  for image in "$images"/own/*.tar; do
    [ ! -e "$image" ] || ctr images import --local "$image"
  done
}

kubelet_and_proxy() {
  printf 'nameserver %s\nsearch svc.cluster.local cluster.local\noptions ndots:5\n' "$dns_address" >"$run/resolv.conf"
  printf 'nameserver 127.0.0.1\n' >"$run/kubelet-resolv.conf"
  cat >"$run/kubelet.yaml" <<X
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
cgroupRoot: /$cgroup
cgroupsPerQOS: true
clusterDNS: [$dns_address]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
enforceNodeAllocatable: []
evictionHard: {nodefs.available: "1%", memory.available: "100Mi", imagefs.available: "1%"}
failCgroupV1: false
failSwapOn: false
imageGCHighThresholdPercent: 100
maxPods: 100
registerNode: true
resolvConf: $run/kubelet-resolv.conf
syncFrequency: 10s
tlsCertFile: $pki/kubelet.crt
tlsPrivateKeyFile: $pki/kubelet.key
X
  component kubelet kubelet --config="$run/kubelet.yaml" --kubeconfig="$pki/kubelet.kubeconfig" \
    --hostname-override="$node" --node-ip="$node_address" --root-dir=/var/lib/kubelet --v=2
  cat >"$run/proxy.yaml" <<X
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $pki/proxy.kubeconfig}
mode: nftables
clusterCIDR: $pods
conntrack: {maxPerCore: 0}
X
  component kube-proxy kube-proxy --config="$run/proxy.yaml" --hostname-override="$node"
}

cluster_dns() {
  cat >"$run/Corefile" <<X
.:53 {
  bind $node_address
  errors
  cache 1
  kubernetes cluster.local in-addr.arpa {
    kubeconfig $KUBECONFIG test
    ttl 1
  }
  # There is nothing beyond the cluster: say so at once.
  template ANY ANY {
    rcode NXDOMAIN
  }
}
X
  component coredns coredns -conf "$run/Corefile"
  # The command's own look-ups: Services by name, from outside any pod.
  mount --bind "$run/resolv.conf" /etc/resolv.conf
}

node_ready() {
  kubectl wait --for=condition=Ready --timeout=0 "node/$node"
}

default_accounts() {
  kubectl -n default get serviceaccount default
}

# ------------------------------------------------------------------------------------------------------------------- ending

show_logs() {
  local file
  for file in "$log"/*.log; do
    printf '\n==> %s\n' "${file##*/}" >&2
    tail -n 8 "$file" | cut -c1-240 >&2
  done
}

command_pid=
stop() {
  [ -z "$command_pid" ] || kill -TERM "$command_pid" 2>/dev/null || true
}
trap 'stop; exit 143' TERM
trap 'stop; exit 130' INT HUP

mkdir -p "$pki" "$log" "$run/volumes"
ready=
trap '[ -n "$ready" ] || { step "the cluster did not come up; logs are in $log"; show_logs; }' EXIT

private_folders
network
cgroups
store
container_runtime
import_images >"$log/import.log" 2>&1 &
importing=$!
certificates
step "namespaces and certificates are made"
api_server
wait_for 60 "the API server" api_ready
step "the API server is ready"
controllers
kubelet_and_proxy
cluster_dns
kubectl apply -f "$here/manifests/" >"$log/manifests.log"
wait_for 60 "the node to be Ready" node_ready
step "the node is Ready"
wait_for 30 "the default service account" default_accounts
wait "$importing"
step "images of this version are imported"
ready=yes

cat >"$run/env" <<X
export KUBECONFIG=$KUBECONFIG
export PATH=$tools/bin:\$PATH
export CONTAINERD_ADDRESS=$CONTAINERD_ADDRESS CONTAINERD_NAMESPACE=$CONTAINERD_NAMESPACE
export CLUSTER_KIND=own CLUSTER_RUN=$run CLUSTER_TOOLS=$tools
X

if [ "$mode" = keep ]; then
  touch "$run/ready"
  sleep infinity &
  command_pid=$!
  wait "$command_pid" || true
  exit 0
fi

export CLUSTER_KIND=own CLUSTER_RUN=$run CLUSTER_TOOLS=$tools
step "running: $*"
"$@" <&0 &
command_pid=$!
code=0
wait "$command_pid" || code=$?
command_pid=
if [ "$code" != 0 ]; then
  show_logs
  step "the command failed with exit code $code; logs are in $log"
fi
exit "$code"
