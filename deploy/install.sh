# From a checkout to a cluster with Skein in it: what the demo and the end-to-end tests begin with. Sourced, in the
# root of the checkout. Leaves KUBECONFIG, PATH (kubectl, helm) and SKEIN_BINARY set.
# shellcheck shell=bash

SKEIN_NAMESPACE=skein-system

# step <sentence>: progress, for people.
step() { printf '\n\033[1m==> %s\033[0m\n' "$*" >&2; }

# quietly <command>...: its output only when it fails.
quietly() {
  local log
  log=$(mktemp)
  if ! "$@" >"$log" 2>&1; then
    cat "$log" >&2
    echo "this did not work: $*" >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}

# load_built <build script>: builds what the script names, and loads it. Nothing is done twice.
load_built() {
  local image context built
  built=$("$1")
  while read -r image context; do
    if [ "${CLUSTER:-local}" = local ]; then
      deploy/local/image "$image" "$context" >/dev/null
    else
      make -s load IMAGE="$(deploy/local/image --build-only "$image" "$context")"
    fi
  done <<<"$built"
}

# use_cluster: brings the cluster up if there is none, and points this shell at it.
use_cluster() {
  step "a cluster (${CLUSTER:-local})"
  make -s cluster >&2
  if [ "${CLUSTER:-local}" = local ]; then
    eval "$(deploy/local/cluster env)"
  else
    KUBECONFIG=$(make -s kubeconfig)
    export KUBECONFIG
  fi
  command -v helm >/dev/null || PATH=$(tools/get helm):$PATH
}

# install_skein: a cluster, the images, the resource definitions, the chart.
install_skein() {
  use_cluster
  step "the images"
  quietly make image
  load_built deploy/nats/build
  load_built examples/hello/build
  SKEIN_BINARY=${CARGO_TARGET_DIR:-$HOME/.cache/skein/target}/$(rustc -vV | sed -n 's/^host: //p')/release/skein

  step "the chart"
  kubectl apply -f crds/ >&2
  # A change of the image behind the same tag must reach the pods: its digest is a pod annotation.
  quietly helm upgrade --install skein charts/skein --namespace $SKEIN_NAMESPACE --create-namespace \
    --set-string podAnnotations."skein\.dev/binary"="$(sha256sum <"$SKEIN_BINARY" | cut -c1-16)" --wait --timeout 180s
  kubectl get pods -n $SKEIN_NAMESPACE >&2
}
