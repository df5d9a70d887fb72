# What all parts share: saying things, waiting for conditions, and processes that are started once,
# found again and stopped by a pid file.
# shellcheck shell=bash disable=SC2154

say() { echo "$*" >&2; }
fail() { echo "${0##*/}: $*" >&2; exit 1; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)

# tools <folder of tools/>...: builds what this machine has not got yet; afterwards $etcd, $kubernetes, ...
# name the directories of their programs.
tools() {
  local name directory
  for name in "$@"; do
    directory=$("$root/tools/get" "$name") || fail "cannot build $name; see the messages above"
    declare -g "$name=$directory"
  done
}

# require <command> <Debian package>...: installs the packages whose commands are missing.
require() {
  local missing=()
  while [ $# -gt 0 ]; do
    [ -n "$(type -P "$1" || true)" ] || missing+=("$2")
    shift 2
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ] || ! type -P apt-get >/dev/null; then
    fail "please install: ${missing[*]}"
  fi
  say "installing ${missing[*]}"
  apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
    { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >&2 ||
    fail "apt-get could not install: ${missing[*]}"
}

# One command at a time on one state directory; the lock lies beside it, because `down` removes it.
lock_state() {
  mkdir -p "$(dirname "$STATE")"
  exec 9>"$STATE.lock"
  flock -w 900 9 || fail "another command has been working on $STATE for 15 minutes"
}

# Only a directory that carries our mark is ever removed.
make_state() {
  if [ -d "$STATE" ] && [ ! -e "$STATE/.skein-local" ] && [ -n "$(ls -A "$STATE")" ]; then
    fail "$STATE holds something else; choose another directory"
  fi
  mkdir -p "$STATE/log" "$STATE/run"
  chmod 711 "$STATE"
  touch "$STATE/.skein-local"
}

# --- Processes. A pid file holds the process id and its start time, so that a reused id is never taken for ours.

# When a live process started, in clock ticks since boot; fails for one that is gone or a zombie.
started_at() {
  local stat
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
  # The fields after the name, which may itself contain spaces: the state comes first.
  read -ra stat <<<"${stat##*) }"
  [ "${stat[0]}" != Z ] && echo "${stat[19]}"
}

# The process id of a component that runs; fails when it does not.
pid_of() {
  local pid start
  { read -r pid start <"$STATE/run/$1.pid"; } 2>/dev/null || return 1
  [ "$(started_at "$pid")" = "$start" ] && echo "$pid"
}

alive() { pid_of "$1" >/dev/null; }

# start <name> <program> [argument...]: a session of its own, log in log/<name>.log. No effect while it runs.
start() {
  local name=$1
  shift
  ! alive "$name" || return 0
  sweep "$name"
  SKEIN_COMPONENT=$STATE/$name setsid "$@" </dev/null >>"$STATE/log/$name.log" 2>&1 9>&- &
  echo "$! $(started_at $!)" >"$STATE/run/$name.pid"
}

# sweep <name>: ends what a component that died has left of its process group.
sweep() {
  local pid member
  { read -r pid _ <"$STATE/run/$1.pid"; } 2>/dev/null || return 0
  for member in $(pgrep --pgroup "$pid" || true); do
    if grep -qszFx "SKEIN_COMPONENT=$STATE/$1" "/proc/$member/environ"; then
      kill -KILL "$member" 2>/dev/null || true
    fi
  done
}

# stop <name> [signal]: asks, and insists after ten seconds.
stop() {
  local pid deadline=$((SECONDS + 10))
  if pid=$(pid_of "$1"); then
    kill "-${2:-TERM}" -- "-$pid" 2>/dev/null || true
    while alive "$1"; do
      [ $SECONDS -lt $deadline ] || kill -KILL -- "-$pid" 2>/dev/null || true
      sleep 0.05
    done
  fi
  sweep "$1"
  rm -f "$STATE/run/$1.pid"
}

# Three ports in a row that nobody listens on, below those that the kernel gives to outgoing connections.
pick_port() {
  local port offset
  while :; do
    port=$((20000 + RANDOM % 9990))
    for offset in 0 1 2; do
      ! (exec 3<>"/dev/tcp/127.0.0.1/$((port + offset))") 2>/dev/null || continue 2
    done
    echo "$port"
    return
  done
}

# free_port <what> <port> [address]: says clearly when somebody else has the port.
free_port() {
  ! (exec 3<>"/dev/tcp/${3:-127.0.0.1}/$2") 2>/dev/null ||
    fail "port $2, wanted for $1, is taken by another program; choose other ports (SKEIN_LOCAL_PORT, or --port)"
}

# await <component> <seconds> <command...>: until the command succeeds, the component dies, or time is up.
await() {
  local name=$1 seconds=$2 deadline=$((SECONDS + $2))
  shift 2
  until "$@" >/dev/null 2>&1; do
    alive "$name" || fail "$name has ended: $(tail -n 1 "$STATE/log/$name.log") (see $STATE/log/$name.log)"
    [ $SECONDS -lt $deadline ] || fail "$name is not ready after $seconds s (see $STATE/log/$name.log)"
    sleep 0.1
  done
}

# api <path> [curl argument...]: a request to the API server as its administrator.
api() {
  local path=$1
  shift
  curl --silent --fail --max-time 10 --cacert "$PKI/ca.crt" --cert "$PKI/admin.crt" --key "$PKI/admin.key" \
    "https://127.0.0.1:$API_PORT$path" "$@"
}

# Ours and not the machine's: it has the servers' version.
kubectl() { "$kubernetes/kubectl" --kubeconfig "$KUBECONFIG_FILE" "$@"; }
