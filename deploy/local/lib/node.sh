# The node: control group, containerd and kubelet; and on the way down the end of every container.
# shellcheck shell=bash disable=SC2154

# Directories outside the state that containerd and kubelet cannot be told to leave alone.
# `down` removes those that were not there before.
foreign_directories=(/run/containerd /run/containerd/s /var/lib/cni /var/lib/cni/results /var/log/containers
  /var/lib/kubelet /var/lib/kubelet/device-plugins)

note_foreign_directories() {
  [ ! -e "$STATE/made-directories" ] || return 0
  local directory
  for directory in "${foreign_directories[@]}"; do
    [ -d "$directory" ] || echo "$directory"
  done | tac >"$STATE/made-directories"
}

# Our control group in every hierarchy: everything that runs in a pod lies below it.
control_groups() {
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    echo "/sys/fs/cgroup/$NAME"
  else
    local hierarchy
    for hierarchy in /sys/fs/cgroup/*/; do
      if [ -e "$hierarchy/cgroup.procs" ]; then echo "$hierarchy$NAME"; fi
    done
  fi
}

control_groups_up() {
  local group controller
  if [ ! -e "$STATE/control-groups" ]; then
    for group in $(control_groups); do
      [ ! -e "$group" ] || fail "the control group $group is another cluster's; set SKEIN_LOCAL_NAME"
    done
    touch "$STATE/control-groups"
  fi
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    for controller in cpuset cpu io memory hugetlb pids; do
      echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control || true
    done 2>/dev/null
  fi
  for group in $(control_groups); do
    mkdir -p "$group"
    # Version 1 gives a new group no CPU and no memory node.
    for controller in cpuset.cpus cpuset.mems; do
      if [ -e "$group/tasks" ] && [ -e "$group/$controller" ] && [ -z "$(<"$group/$controller")" ]; then
        cat "$group/../$controller" >"$group/$controller"
      fi
    done
  done
}

# Kills what runs in our control group, then removes it. The kernel needs a moment for each.
control_groups_down() {
  [ -e "$STATE/control-groups" ] || return 0
  local group pids deadline=$((SECONDS + 30))
  for group in $(control_groups); do
    while [ -d "$group" ]; do
      mapfile -t pids < <(find "$group" -name cgroup.procs -exec cat {} + 2>/dev/null | grep -vx 0 | sort -u)
      [ ${#pids[@]} -eq 0 ] || kill -KILL "${pids[@]}" 2>/dev/null || true
      find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
      [ $SECONDS -lt $deadline ] || fail "processes in $group do not end: ${pids[*]}"
      [ ! -d "$group" ] || sleep 0.05
    done
  done
}

containerd_up() {
  alive containerd && return
  local cni_programs
  for cni_programs in /usr/lib/cni /opt/cni/bin; do
    [ ! -x "$cni_programs/bridge" ] || break
  done
  # restrict_oom_score_adj: without CAP_SYS_RESOURCE no sandbox starts otherwise.
  cat >"$STATE/containerd.toml" <<END
version = 2
root = "$STATE/containerd/root"
state = "$STATE/containerd/state"
[grpc]
  address = "$CONTAINERD_SOCKET"
[plugins."io.containerd.internal.v1.opt"]
  path = "$STATE/containerd/opt"
[plugins."io.containerd.nri.v1.nri"]
  disable = true
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$pause_image"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$cni_programs"
    conf_dir = "$STATE/cni/conf"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      Root = "$STATE/containerd/runc"
END
  start containerd "$(type -P containerd)" --config "$STATE/containerd.toml"
  await containerd 60 ctr --address "$CONTAINERD_SOCKET" version
}

kubelet_up() {
  alive kubelet && return
  free_port "the kubelet" "$KUBELET_PORT" "$NODE_IP"
  free_port "the kubelet's health" "$KUBELET_HEALTH_PORT"
  # No image is ever collected and no pod evicted: images cannot be pulled again, and a full disk is the user's business.
  cat >"$STATE/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $NODE_IP
port: $KUBELET_PORT
healthzPort: $KUBELET_HEALTH_PORT
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: "$PKI/ca.crt"}}
authorization: {mode: Webhook}
tlsCertFile: $PKI/kubelet.crt
tlsPrivateKeyFile: $PKI/kubelet.key
containerRuntimeEndpoint: unix://$CONTAINERD_SOCKET
cgroupDriver: cgroupfs
cgroupRoot: /$NAME
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
makeIPTablesUtilChains: false
clusterDomain: cluster.local
clusterDNS: [$DNS_IP]
maxPods: 250
podLogsDir: $STATE/pods
volumePluginDir: $STATE/kubelet/volume-plugins
serializeImagePulls: false
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 100Mi, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%, imagefs.inodesFree: 0%}
END
  start kubelet "$kubernetes/kubelet" --config "$STATE/kubelet.yaml" --kubeconfig "$PKI/kubelet.kubeconfig" \
    --hostname-override "$NODE" --node-ip "$NODE_IP" --root-dir "$STATE/kubelet"
}

# After a reboot: nothing of what the state directory says runs any more.
node_forget() {
  local gone=(network kernel-settings made-directories control-groups containerd/state containerd/runc cni/addresses)
  rm -rf "$STATE"/run/* "${gone[@]/#/$STATE/}"
}

node_down() {
  stop kubelet
  stop containerd
  control_groups_down
  shims_down
  local mount directory
  # What the network plugins remember of the pods that were killed with their node.
  for directory in "$STATE"/containerd/root/io.containerd.grpc.v1.cri/sandboxes/*/; do
    rm -f /var/lib/cni/results/*-"$(basename "$directory")"-*
  done
  # Deepest first; a name with a space cannot be ours.
  awk -v below="$STATE/" 'index($5, below) == 1 {print $5}' /proc/self/mountinfo | sort -r | while read -r mount; do
    umount "$mount" || umount --lazy "$mount"
  done
  if [ -d /var/log/containers ]; then
    find /var/log/containers -type l -lname "$STATE/*" -delete
  fi
  [ -e "$STATE/made-directories" ] || return 0
  if grep -qx /var/lib/kubelet "$STATE/made-directories"; then
    find /var/lib/kubelet -type s -delete 2>/dev/null || true
  fi
  while read -r directory; do
    rmdir "$directory" 2>/dev/null || true
  done <"$STATE/made-directories"
}

# The shims of our own containerd, told by its socket in their arguments; and the sockets they leave behind.
shims_down() {
  local directory arguments
  for directory in /proc/[0-9]*; do
    { mapfile -d '' -t arguments <"$directory/cmdline"; } 2>/dev/null || continue
    if [[ ${arguments[0]-} == *containerd-shim* && " ${arguments[*]} " == *" -address $CONTAINERD_SOCKET "* ]]; then
      kill -KILL "${directory#/proc/}" 2>/dev/null || true
    fi
  done
  for directory in "$STATE"/containerd/state/io.containerd.runtime.v2.task/k8s.io/*/; do
    if [ -e "$directory/address" ]; then
      rm -f "$(sed 's,^unix://,,' "$directory/address")"
    fi
  done
}
