# Everything about the local cluster that a machine may want otherwise: where its state lies, its
# names, its addresses, its ports. Each can be set in the environment; nothing below repeats a value.
# shellcheck shell=bash disable=SC2034

# Its state: process ids, logs, certificates, etcd's data, images, volumes. `down` removes all of it.
STATE=${SKEIN_LOCAL:-${XDG_STATE_HOME:-$HOME/.local/state}/skein/local}
# What outlives it: built programs and image archives, shared by all checkouts.
CACHE=${SKEIN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/skein}

# The name under which it makes things on this machine: nftables table, control group, CNI network.
NAME=${SKEIN_LOCAL_NAME:-skein-local}
NODE=${SKEIN_LOCAL_NODE:-node0}
NODE_BRIDGE=${SKEIN_LOCAL_NODE_BRIDGE:-node0}
POD_BRIDGE=${SKEIN_LOCAL_POD_BRIDGE:-skein-pods}

# Prefix lengths are fixed: /24 for the node, /16 for pods and Services.
NODE_NET=${SKEIN_LOCAL_NODE_NET:-10.99.0}          # node: .1
POD_NET=${SKEIN_LOCAL_POD_NET:-10.100}
SERVICE_NET=${SKEIN_LOCAL_SERVICE_NET:-10.96}      # API server: .0.1, DNS: .0.10
NODE_IP=$NODE_NET.1
POD_CIDR=$POD_NET.0.0/16
SERVICE_CIDR=$SERVICE_NET.0.0/16
KWOK_CIDR=10.128.0.0/16                             # pods on fake nodes; never routed
API_SERVICE_IP=$SERVICE_NET.0.1
DNS_IP=$SERVICE_NET.0.10

# Ten ports in a row from the API server's on.
ports_from() {
  API_PORT=$1
  ETCD_PORT=$(($1 + 1))
  ETCD_PEER_PORT=$(($1 + 2))
  CONTROLLER_MANAGER_PORT=$(($1 + 3))
  SCHEDULER_PORT=$(($1 + 4))
  KUBELET_PORT=$(($1 + 5))
  KUBELET_HEALTH_PORT=$(($1 + 6))
  PROXY_METRICS_PORT=$(($1 + 7))
  PROXY_HEALTH_PORT=$(($1 + 8))
  KWOK_PORT=$(($1 + 9))
}
ports_from "${SKEIN_LOCAL_PORT:-26443}"

# The API server listens on API_BIND and tells others API_ADVERTISE. It cannot listen on two chosen
# addresses, so the cluster lets it listen on all and keeps the outside away (network.sh).
API_BIND=0.0.0.0
API_ADVERTISE=$NODE_IP

# More arguments for a program, for instance another request budget of the controller-manager.
API_SERVER_FLAGS=${SKEIN_LOCAL_API_SERVER_FLAGS:-}
CONTROLLER_MANAGER_FLAGS=${SKEIN_LOCAL_CONTROLLER_MANAGER_FLAGS:-}
SCHEDULER_FLAGS=${SKEIN_LOCAL_SCHEDULER_FLAGS:-}

PKI=$STATE/pki
KUBECONFIG_FILE=$STATE/kubeconfig
CONTAINERD_SOCKET=$STATE/run/containerd.sock
