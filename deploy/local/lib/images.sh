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
  local partial=$4.$$
  {
    buildah bud --isolation chroot --quiet --file "$3" --tag "$1" "$2" &&
      buildah push "$1" "docker-archive:$partial:$1" && mv "$partial" "$4"
  } >"$partial.log" 2>&1 || {
    rm -f "$partial"
    fail "buildah could not build $1: $(tail -n 1 "$partial.log") (see $partial.log)"
  }
  rm -f "$partial.log"
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

# load_image <archive>: no effect when its tags in the cluster stand for this very archive already.
load_image() {
  local key tags tag stamps=$STATE/images same=yes
  [ -r "$1" ] || fail "there is no image archive $1"
  alive containerd || fail "the local cluster is not up; start it with: make cluster"
  tags=$(tar -xOf "$1" manifest.json 2>/dev/null | jq -r '.[].RepoTags[]' 2>/dev/null) ||
    fail "$1 is not a docker-archive with named images"
  key=$(stat -L -c '%n %i %s %Y' "$1")
  mkdir -p "$stamps"
  for tag in $tags; do
    [ "$(cat "$stamps/${tag//\//_}" 2>/dev/null)" = "$key" ] || same=no
  done
  [ $same = no ] || return 0
  ctr --address "$CONTAINERD_SOCKET" --namespace k8s.io images import "$1" >"$STATE/log/load.log" 2>&1 ||
    fail "containerd did not take $1: $(tail -n 1 "$STATE/log/load.log")"
  for tag in $tags; do
    echo "$key" >"$stamps/${tag//\//_}"
  done
}
