# Fake nodes beside the real one: kwok answers for them and for the pods on them, so that a thousand
# agents fit on a laptop. They are tainted `kwok.x-k8s.io/node=fake:NoSchedule`; only pods that tolerate it land there.
# shellcheck shell=bash disable=SC2154

kwok_selector=kwok.x-k8s.io/node=fake

# kwok_nodes <how many>: makes it so; none stops kwok.
kwok_nodes() {
  local wanted=$1 names
  [[ $wanted =~ ^[0-9]+$ ]] || fail "usage: cluster kwok <number of fake nodes>"
  tools kwok kubernetes
  [ "$wanted" -eq 0 ] || kwok_up
  names=$(kubectl get nodes --selector type=kwok --output name)
  # shellcheck disable=SC2016
  jq --null-input --compact-output --arg present "$names" --argjson wanted "$wanted" '
    ($present | split("\n") | map({key: ., value: true}) | from_entries) as $there
    | range($wanted) | "kwok-\(.)" | select($there["node/" + .] | not)
    | {apiVersion: "v1", kind: "Node",
       metadata: {name: ., labels: {type: "kwok", "kubernetes.io/hostname": ., "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
                  annotations: {"kwok.x-k8s.io/node": "fake"}},
       spec: {taints: [{key: "kwok.x-k8s.io/node", value: "fake", effect: "NoSchedule"}]},
       status: ({cpu: "64", memory: "512Gi", pods: "500"} | {capacity: ., allocatable: .})}' >"$STATE/kwok-nodes.json"
  if [ -s "$STATE/kwok-nodes.json" ]; then
    kubectl create -f "$STATE/kwok-nodes.json" >/dev/null
  fi
  names=$(grep -E '^node/kwok-[0-9]+$' <<<"$names" | awk -F- -v wanted="$wanted" '$NF >= wanted' || true)
  if [ -n "$names" ]; then
    xargs "$kubernetes/kubectl" --kubeconfig "$KUBECONFIG_FILE" delete <<<"$names" >/dev/null
  fi
  if [ "$wanted" -eq 0 ]; then
    stop kwok
  else
    kubectl wait --for condition=Ready node --selector type=kwok --timeout 300s >/dev/null ||
      fail "the fake nodes did not become ready (see $STATE/log/kwok.log)"
  fi
}

kwok_up() {
  alive kwok && return
  free_port kwok "$KWOK_PORT"
  local module stage
  # The rules by which fake nodes and pods live lie in kwok's own module.
  module=$(cd "$root/tools/kwok" && go mod download sigs.k8s.io/kwok && go list -m -f '{{.Dir}}' sigs.k8s.io/kwok) ||
    fail "cannot find kwok's module"
  for stage in node/fast node/heartbeat-with-lease pod/fast; do
    find "$module/kustomize/stage/$stage" -maxdepth 1 -name '*.yaml' ! -name kustomization.yaml \
      -exec awk 'FNR == 1 {print "---"} 1' {} +
  done >"$STATE/kwok-stages.yaml"
  start kwok "$kwok/kwok" --kubeconfig "$KUBECONFIG_FILE" --config "$STATE/kwok-stages.yaml" \
    --manage-all-nodes=false --manage-nodes-with-annotation-selector "$kwok_selector" \
    --node-lease-duration-seconds 40 --cidr "$KWOK_CIDR" --node-ip "$NODE_IP" --node-port "$KWOK_PORT" \
    --server-address "127.0.0.1:$KWOK_PORT"
  await kwok 60 curl --silent --fail "http://127.0.0.1:$KWOK_PORT/healthz"
}
