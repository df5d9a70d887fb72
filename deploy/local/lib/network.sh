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

has_link() { ip link show dev "$1" >/dev/null 2>&1; }

# Whether this is the network namespace that the cluster was made in; another's things may have the same names.
at_home() { [ "$(readlink /proc/self/ns/net)" = "$(cat "$STATE/network" 2>/dev/null)" ]; }

# Refuses what belongs to others, before anything is made.
network_check() {
  if [ -e "$STATE/network" ]; then
    at_home || fail "this cluster lives in another network namespace"
    return
  fi
  local range link family
  for link in "$NODE_BRIDGE" "$POD_BRIDGE"; do
    ! has_link "$link" || fail "the interface $link exists already and is not this cluster's"
  done
  for range in "$NODE_NET.0/24" "$POD_CIDR" "$SERVICE_CIDR"; do
    [ -z "$(ip -4 route show root "$range")" ] || fail "the addresses $range are in use on this machine"
  done
  ! nft list table ip kube-proxy >/dev/null 2>&1 ||
    fail "another kube-proxy is at work here; one network namespace takes one cluster"
  # What the network plugins may add to, and what therefore stays.
  for family in ip ip6; do
    if nft list table $family nat >/dev/null 2>&1; then touch "$STATE/had-$family-nat"; fi
    if nft list chain $family nat CNI-HOSTPORT-DNAT >/dev/null 2>&1; then touch "$STATE/had-$family-hostports"; fi
  done
  readlink /proc/self/ns/net >"$STATE/network"
}

network_up() {
  modprobe -q -a br_netfilter overlay 2>/dev/null || true
  save_kernel_settings
  echo 1 >/proc/sys/net/ipv4/ip_forward
  if [ -e /proc/sys/net/bridge/bridge-nf-call-iptables ]; then
    echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables
  fi
  # The kubelet refuses a loopback address: an empty bridge carries the node's.
  if ! has_link "$NODE_BRIDGE"; then
    ip link add "$NODE_BRIDGE" type bridge
  fi
  ip addr replace "$NODE_IP/24" dev "$NODE_BRIDGE"
  ip link set "$NODE_BRIDGE" up
  # Programs of the host reach Services without a default route, too.
  ip route replace "$SERVICE_CIDR" dev "$NODE_BRIDGE" src "$NODE_IP"

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
  at_home || return 0
  local link table
  for link in "$POD_BRIDGE" "$NODE_BRIDGE"; do
    ! has_link "$link" || ip link delete "$link"
  done
  for table in "ip $NAME" "ip kube-proxy" "ip6 kube-proxy"; do
    # shellcheck disable=SC2086  # family and name
    nft delete table $table 2>/dev/null || true
  done
  hostports_down
  restore_kernel_settings
}

# The portmap plugin uses iptables; what was not there before the cluster is ours: its chains, then the tables.
hostports_down() {
  local family tables chain rule
  for family in ip ip6; do
    tables=${family}tables
    if [ ! -e "$STATE/had-$family-hostports" ] && "$tables" -t nat -S CNI-HOSTPORT-DNAT >/dev/null 2>&1; then
      "$tables" -t nat -S | sed -n 's/^-A \(.* -j CNI-\(HOSTPORT\|DN\)-.*\)/-D \1/p' | while read -r rule; do
        xargs "$tables" -t nat <<<"$rule"
      done
      for chain in $("$tables" -t nat -S | sed -n 's/^-N \(CNI-\(HOSTPORT\|DN\)-.*\)/\1/p'); do
        "$tables" -t nat -F "$chain" && "$tables" -t nat -X "$chain"
      done
    fi
    # Others may have come to use the table in the meantime.
    if [ ! -e "$STATE/had-$family-nat" ] && ! "$tables" -t nat -S 2>/dev/null | grep -qv '^-P'; then
      nft delete table "$family" nat 2>/dev/null || true
    fi
  done
}
