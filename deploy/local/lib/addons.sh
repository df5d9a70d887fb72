# What runs in the cluster itself: CoreDNS, and the storage class with the process that serves it.
# shellcheck shell=bash disable=SC2154

# The cluster's own images, built once for each version of their programs.
addon_images_up() {
  local archive
  for tool in pause coredns; do
    archive=$CACHE/images/${!tool##*/}.tar
    program_image "localhost/skein-$tool:local" "${!tool}/$tool" "$archive"
    load_image "$archive"
  done
}

addons_up() {
  local manifests
  manifests=$(sed -e "s/DNS_IP/$DNS_IP/; s,COREDNS_IMAGE,$coredns_image," "$root"/deploy/local/manifests/*.yaml)
  kubectl apply --server-side --force-conflicts -f - <<<"$manifests" >"$STATE/log/addons.log" 2>&1 ||
    fail "the addons were refused: $(tail -n 1 "$STATE/log/addons.log")"
}

volumes_up() {
  mkdir -p "$STATE/volumes"
  start volumes "$root/deploy/local/lib/volumes"
}

addons_ready() {
  kubectl wait --for condition=Ready "node/$NODE" --timeout 1s &&
    kubectl --namespace kube-system rollout status deployment/coredns --timeout 1s &&
    (exec 3<>"/dev/tcp/$DNS_IP/53") # its Service carries traffic
}
