# Certificates and kubeconfigs: one authority, one certificate for each party, each made once.
# shellcheck shell=bash

# certificate <file> <subject> [subject alternative names]
certificate() {
  [ ! -s "$PKI/$1.crt" ] || return 0
  openssl req -x509 -CA "$PKI/ca.crt" -CAkey "$PKI/ca.key" -days 3650 -nodes -subj "$2" \
    -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -keyout "$PKI/$1.key" -out "$PKI/$1.crt" \
    -addext "basicConstraints=critical,CA:FALSE" -addext "keyUsage=critical,digitalSignature" \
    -addext "extendedKeyUsage=clientAuth,serverAuth" ${3:+-addext "subjectAltName=$3"} 2>/dev/null ||
    fail "openssl could not make the certificate $1 (version 3 or later is needed)"
}

# kubeconfig <certificate> <file>: for a client of the API server, everything inside the one file.
kubeconfig() {
  [ ! -s "$2" ] || return 0
  encoded() { base64 -w0 "$PKI/$1"; }
  (umask 077 && cat >"$2") <<END
apiVersion: v1
kind: Config
current-context: $NAME
contexts: [{name: $NAME, context: {cluster: $NAME, user: $1}}]
clusters:
- name: $NAME
  cluster: {server: "https://127.0.0.1:$API_PORT", certificate-authority-data: $(encoded ca.crt)}
users:
- name: $1
  user: {client-certificate-data: $(encoded "$1.crt"), client-key-data: $(encoded "$1.key")}
END
}

pki_api_server() {
  mkdir -p "$PKI" && chmod 700 "$PKI"
  if [ ! -s "$PKI/ca.crt" ]; then
    openssl req -x509 -days 3650 -nodes -subj "/CN=$NAME" -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 \
      -keyout "$PKI/ca.key" -out "$PKI/ca.crt" -addext "keyUsage=critical,keyCertSign,cRLSign" 2>/dev/null ||
      fail "openssl could not make the certificate authority"
    openssl ecparam -name prime256v1 -genkey -noout -out "$PKI/service-accounts.key"
    openssl pkey -in "$PKI/service-accounts.key" -pubout -out "$PKI/service-accounts.pub"
  fi
  local names=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local
  certificate api-server /CN=kube-apiserver "$names,IP:127.0.0.1,IP:$API_SERVICE_IP,IP:$API_ADVERTISE"
  certificate admin /O=system:masters/CN=admin
  kubeconfig admin "$KUBECONFIG_FILE"
}

pki_cluster() {
  certificate kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client
  certificate kubelet "/O=system:nodes/CN=system:node:$NODE" "DNS:$NODE,IP:$NODE_IP"
  certificate controller-manager /CN=system:kube-controller-manager IP:127.0.0.1
  certificate scheduler /CN=system:kube-scheduler IP:127.0.0.1
  certificate proxy /CN=system:kube-proxy
  local client
  for client in kubelet controller-manager scheduler proxy; do
    kubeconfig $client "$PKI/$client.kubeconfig"
  done
}
