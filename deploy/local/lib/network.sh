# The network: the node's address, the pods' bridge, Services, and the one nftables table of our own.
# shellcheck shell=bash disable=SC2154

# Kernel settings that the cluster or its kubelet changes; `down` puts the former values back.
kernel_settings=(net/ipv4/ip_forward net/bridge/bridge-nf-call-iptables vm/overcommit_memory vm/panic_on_oom
  kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes)

save_kernel_settings() {
  [ ! -e "$STATE/kernel-settings" ] || return 0
  local key
  for key in "${kernel_settings[@]}"; do
    [ ! -r "/proc/sys/$key" ] || echo "$key $(<"/proc/sys/$key")"
  done >"$STATE/kernel-settings.partial"
  mv "$STATE/kernel-settings.partial" "$STATE/kernel-settings"
}

restore_kernel_settings() {
  [ -e "$STATE/kernel-settings" ] || return 0
  local key value
  while read -r key value; do
    [ "$(<"/proc/sys/$key")" = "$value" ] || echo "$value" >"/proc/sys/$key"
  done <"$STATE/kernel-settings"
}

# Refuses what belongs to others, before anything is made.
network_check() {
  [ ! -e "$STATE/network" ] || return 0
  local range link
  for link in "$NODE_BRIDGE" "$POD_BRIDGE"; do
    [ ! -e "/sys/class/net/$link" ] || fail "the interface $link exists already and is not this cluster's"
  done
  for range in "$NODE_NET.0/24" "$POD_CIDR" "$SERVICE_CIDR"; do
    [ -z "$(ip -4 route show root "$range")" ] || fail "the addresses $range are in use on this machine"
  done
  ! nft list table ip kube-proxy >/dev/null 2>&1 ||
    fail "another kube-proxy is at work here; one network namespace takes one cluster"
  if nft list table ip nat >/dev/null 2>&1; then touch "$STATE/had-nat-table"; fi
  if nft list chain ip nat CNI-HOSTPORT-DNAT >/dev/null 2>&1; then touch "$STATE/had-hostports"; fi
  touch "$STATE/network"
}

network_up() {
  modprobe -q -a br_netfilter overlay 2>/dev/null || true
  save_kernel_settings
  echo 1 >/proc/sys/net/ipv4/ip_forward
  if [ -e /proc/sys/net/bridge/bridge-nf-call-iptables ]; then
    echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables
  fi
  # The kubelet refuses a loopback address: an empty bridge carries the node's.
  if [ ! -e "/sys/class/net/$NODE_BRIDGE" ]; then
    ip link add "$NODE_BRIDGE" type bridge
  fi
  ip addr replace "$NODE_IP/24" dev "$NODE_BRIDGE"
  ip link set "$NODE_BRIDGE" up

  # Pods reach the outside under the machine's address; the outside does not reach the API server.
  nft -f - <<END
table ip $NAME
delete table ip $NAME
table ip $NAME {
  chain outgoing {
    type nat hook postrouting priority srcnat;
    ip saddr $POD_CIDR oifname != { "$NODE_BRIDGE", "$POD_BRIDGE" } masquerade
  }
  chain incoming {
    type filter hook input priority filter - 5;
    tcp dport $API_PORT iifname != { "lo", "$NODE_BRIDGE", "$POD_BRIDGE" } drop
  }
}
END

  mkdir -p "$STATE/cni/conf"
  cat >"$STATE/cni/conf/10-pods.conflist" <<END
{
  "cniVersion": "0.4.0",
  "name": "$NAME",
  "plugins": [
    {
      "type": "bridge", "bridge": "$POD_BRIDGE", "isGateway": true, "hairpinMode": true, "ipMasq": false,
      "ipam": {
        "type": "host-local", "dataDir": "$STATE/cni/addresses",
        "ranges": [[{"subnet": "$POD_CIDR"}]], "routes": [{"dst": "0.0.0.0/0"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
END
}

proxy_up() {
  alive kube-proxy && return
  free_port "kube-proxy's metrics" "$PROXY_METRICS_PORT"
  free_port "kube-proxy's health" "$PROXY_HEALTH_PORT"
  # Zeros: leave the kernel's connection tracking as it is.
  cat >"$STATE/kube-proxy.yaml" <<END
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: $NODE
clusterCIDR: $POD_CIDR
clientConnection: {kubeconfig: "$PKI/proxy.kubeconfig"}
metricsBindAddress: 127.0.0.1:$PROXY_METRICS_PORT
healthzBindAddress: 127.0.0.1:$PROXY_HEALTH_PORT
oomScoreAdj: 0
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
END
  start kube-proxy "$kubernetes/kube-proxy" --config "$STATE/kube-proxy.yaml"
}

network_down() {
  [ -e "$STATE/network" ] || return 0
  local link table
  for link in "$POD_BRIDGE" "$NODE_BRIDGE"; do
    [ ! -e "/sys/class/net/$link" ] || ip link delete "$link"
  done
  for table in "ip $NAME" "ip kube-proxy" "ip6 kube-proxy"; do
    # shellcheck disable=SC2086  # family and name
    nft delete table $table 2>/dev/null || true
  done
  hostports_down
  restore_kernel_settings
  rm -f /var/lib/cni/results/"$NAME"-*
}

# Pods with a hostPort make the portmap plugin use iptables; where its chains were not there before, they are ours.
hostports_down() {
  local chain rule
  if [ ! -e "$STATE/had-hostports" ] && iptables -t nat -S CNI-HOSTPORT-DNAT >/dev/null 2>&1; then
    iptables -t nat -S | sed -n 's/^-A \(.* -j CNI-\(HOSTPORT\|DN\)-.*\)/-D \1/p' | while read -r rule; do
      xargs iptables -t nat <<<"$rule"
    done
    for chain in $(iptables -t nat -S | sed -n 's/^-N \(CNI-\(HOSTPORT\|DN\)-.*\)/\1/p'); do
      iptables -t nat -F "$chain" && iptables -t nat -X "$chain"
    done
  fi
  if [ ! -e "$STATE/had-nat-table" ]; then
    nft delete table ip nat 2>/dev/null || true
  fi
}
