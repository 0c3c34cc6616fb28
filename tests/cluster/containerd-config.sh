#!/usr/bin/env bash
# Prints the container runtime's configuration for a root folder: the same while images are prepared and in a cluster.
set -euo pipefail

cat <<X
version = 3
root = "$1"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "docker.io/aitbc/pause:1"
[plugins."io.containerd.cri.v1.runtime"]
  # Where root may not lower a process's score (CAP_SYS_RESOURCE), no sandbox would start without this.
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "/opt/cni/net.d"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      SystemdCgroup = false
      BinaryName = "$(command -v runc)"
X
