# etcd, kube-apiserver, kube-controller-manager and kube-scheduler: processes on the host.
# shellcheck shell=bash disable=SC2086,SC2154  # *_FLAGS hold several arguments

etcd_up() {
  alive etcd && return
  free_port etcd "$ETCD_PORT"
  free_port "etcd's peers" "$ETCD_PEER_PORT"
  local peer=http://127.0.0.1:$ETCD_PEER_PORT client=http://127.0.0.1:$ETCD_PORT
  # Losing the last seconds with the machine's power is no loss here, and fsync is most of etcd's cost.
  start etcd "$etcd/etcd" --data-dir "$STATE/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls "$client" --advertise-client-urls "$client" \
    --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "default=$peer"
}

api_server_ready() { api /readyz; }

# api_server_up [argument...]
api_server_up() {
  alive kube-apiserver && return
  free_port "the API server" "$API_PORT"
  # Every request's verb, resource, user and time: how a test proves that nobody writes when idle.
  cat >"$STATE/audit-policy.yaml" <<'END'
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
END
  start kube-apiserver "$kubernetes/kube-apiserver" \
    --etcd-servers "http://127.0.0.1:$ETCD_PORT" \
    --bind-address "$API_BIND" --secure-port "$API_PORT" --advertise-address "$API_ADVERTISE" \
    --service-cluster-ip-range "$SERVICE_CIDR" \
    --tls-cert-file "$PKI/api-server.crt" --tls-private-key-file "$PKI/api-server.key" \
    --client-ca-file "$PKI/ca.crt" \
    --service-account-issuer https://kubernetes.default.svc.cluster.local \
    --service-account-key-file "$PKI/service-accounts.pub" \
    --service-account-signing-key-file "$PKI/service-accounts.key" \
    --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction \
    --audit-policy-file "$STATE/audit-policy.yaml" \
    --audit-log-path "$STATE/audit.log" --audit-log-maxsize 200 --audit-log-maxbackup 2 \
    "$@" $API_SERVER_FLAGS
}

control_plane_up() {
  etcd_up
  api_server_up --allow-privileged \
    --kubelet-preferred-address-types InternalIP --kubelet-certificate-authority "$PKI/ca.crt" \
    --kubelet-client-certificate "$PKI/kubelet-client.crt" --kubelet-client-key "$PKI/kubelet-client.key"
  await kube-apiserver 120 api_server_ready

  if ! alive kube-controller-manager; then
    free_port "the controller-manager" "$CONTROLLER_MANAGER_PORT"
    start kube-controller-manager "$kubernetes/kube-controller-manager" \
      --kubeconfig "$PKI/controller-manager.kubeconfig" --leader-elect=false \
      --authentication-kubeconfig "$PKI/controller-manager.kubeconfig" \
      --authorization-kubeconfig "$PKI/controller-manager.kubeconfig" \
      --bind-address 127.0.0.1 --secure-port "$CONTROLLER_MANAGER_PORT" \
      --tls-cert-file "$PKI/controller-manager.crt" --tls-private-key-file "$PKI/controller-manager.key" \
      --client-ca-file "$PKI/ca.crt" --root-ca-file "$PKI/ca.crt" \
      --cluster-signing-cert-file "$PKI/ca.crt" --cluster-signing-key-file "$PKI/ca.key" \
      --service-account-private-key-file "$PKI/service-accounts.key" --use-service-account-credentials \
      $CONTROLLER_MANAGER_FLAGS
  fi
  if ! alive kube-scheduler; then
    free_port "the scheduler" "$SCHEDULER_PORT"
    start kube-scheduler "$kubernetes/kube-scheduler" \
      --kubeconfig "$PKI/scheduler.kubeconfig" --leader-elect=false \
      --authentication-kubeconfig "$PKI/scheduler.kubeconfig" \
      --authorization-kubeconfig "$PKI/scheduler.kubeconfig" \
      --bind-address 127.0.0.1 --secure-port "$SCHEDULER_PORT" \
      --tls-cert-file "$PKI/scheduler.crt" --tls-private-key-file "$PKI/scheduler.key" \
      --client-ca-file "$PKI/ca.crt" $SCHEDULER_FLAGS
  fi
}
