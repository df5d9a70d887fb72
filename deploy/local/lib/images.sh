# Images without a registry: built by buildah into archives, which containerd imports.
# shellcheck shell=bash disable=SC2034,SC2154

pause_image=localhost/skein-pause:local
coredns_image=localhost/skein-coredns:local

# build_image <name:tag> <context> <Dockerfile> <archive>. A storage of its own, so that it never meets the user's.
build_image() {
  local storage=$CACHE/buildah
  require buildah buildah
  mkdir -p "$storage" "$(dirname "$4")"
  buildah() { command buildah --root "$storage/root" --runroot "$storage/run" --storage-driver vfs "$@"; }
  rm -f "$4.partial"
  {
    buildah bud --isolation chroot --quiet --file "$3" --tag "$1" "$2" &&
      buildah push "$1" "docker-archive:$4.partial:$1" && mv "$4.partial" "$4"
  } >"$4.log" 2>&1 || fail "buildah could not build $1: $(tail -n 1 "$4.log") (see $4.log)"
  rm -f "$4.log"
  buildah rmi --force "$1" >/dev/null 2>&1 || true # the archive is what is kept
  unset -f buildah
}

# program_image <name:tag> <program> <archive>: an image of one static program.
program_image() {
  [ ! -e "$3" ] || return 0
  local context program=${2##*/}
  context=$(mktemp -d)
  cp "$2" "$context/"
  printf 'FROM scratch\nCOPY %s /%s\nUSER 65532\nENTRYPOINT ["/%s"]\n' "$program" "$program" "$program" >"$context/Dockerfile"
  build_image "$1" "$context" "$context/Dockerfile" "$3"
  rm -rf "$context"
}

# load_image <archive>: no effect when the cluster has this very archive already.
load_image() {
  local key
  [ -r "$1" ] || fail "there is no image archive $1"
  alive containerd || fail "the local cluster is not up; start it with: make cluster"
  key=$(stat -L -c '%n %i %s %Y' "$1" | sha256sum | cut -c1-16)
  [ ! -e "$STATE/images/$key" ] || return 0
  ctr --address "$CONTAINERD_SOCKET" --namespace k8s.io images import "$1" >"$STATE/log/load.log" 2>&1 ||
    fail "containerd did not take $1: $(tail -n 1 "$STATE/log/load.log")"
  mkdir -p "$STATE/images"
  touch "$STATE/images/$key"
}
