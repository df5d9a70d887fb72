# Does `down` leave anything behind? Rounds of up, check and down, in a network namespace and a state directory
# of their own, so that a cluster which is in use on this machine is not disturbed.
# shellcheck shell=bash disable=SC2154

soak() {
  [[ $1 =~ ^[1-9][0-9]*$ ]] || fail "usage: cluster soak <rounds>"
  if [ -z "${SKEIN_LOCAL_SOAK-}" ]; then
    local directory
    directory=$(mktemp -d)
    # shellcheck disable=SC2016
    SKEIN_LOCAL_SOAK=$directory SKEIN_LOCAL=$directory/state SKEIN_LOCAL_NAME=skein-soak \
      unshare --net bash -c 'ip link set lo up && { "$0" soak "$1" || { "$0" down; exit 1; }; }' \
      "$root/deploy/local/cluster" "$1" || fail "the soak ended early (see $directory)"
    rm -rf "$directory"
    return
  fi
  local round before after started up down
  before=$(leftovers)
  for ((round = 1; round <= $1; round++)); do
    started=$(milliseconds)
    "$root/deploy/local/cluster" up 2>"$SKEIN_LOCAL_SOAK/up.log" || fail "round $round: $(tail -n 1 "$SKEIN_LOCAL_SOAK/up.log")"
    up=$(($(milliseconds) - started))
    "$root/deploy/local/check" 2>"$SKEIN_LOCAL_SOAK/check.log" || fail "round $round: $(tail -n 1 "$SKEIN_LOCAL_SOAK/check.log")"
    started=$(milliseconds)
    "$root/deploy/local/cluster" down 2>"$SKEIN_LOCAL_SOAK/down.log" || fail "round $round: $(tail -n 1 "$SKEIN_LOCAL_SOAK/down.log")"
    down=$(($(milliseconds) - started))
    say "round $round: up $up ms, down $down ms"
    after=$(leftovers)
    diff <(echo "$before") <(echo "$after") >&2 || fail "round $round left something behind (above, with >)"
  done
  say "$1 rounds left nothing behind"
}

milliseconds() { date +%s%3N; }

# Everything a cluster of this name could leave: in this network namespace, below the state directory, and in the
# places outside it. Other clusters' things are not in the list.
leftovers() {
  local process here
  here=$(readlink /proc/self/ns/net)
  for process in /proc/[0-9]*; do
    # Of this namespace, of our control group, or with our state in its arguments.
    if [ "$(readlink "$process/ns/net")" = "$here" ] || grep -qsF "/$NAME" "$process/cgroup" ||
      tr '\0' ' ' <"$process/cmdline" 2>/dev/null | grep -qF "$STATE/"; then
      # This very command and what it runs come and go.
      [[ " ${BASHPID} $$ $PPID " == *" ${process#/proc/} "* ]] || echo "process $(tr '\0' ' ' <"$process/cmdline")"
    fi
  done 2>/dev/null | grep -v "deploy/local/cluster soak" || true
  ip -o link | awk '{print "interface", $2}'
  nft list ruleset | sed 's/^/nft /'
  iptables-save 2>/dev/null | grep -v '^#' | sed 's/^/iptables /' || true
  awk -v state="$STATE" 'index($5, state) == 1 {print "mount", $5}' /proc/self/mountinfo
  find /sys/fs/cgroup -type d -path "*/$NAME*" 2>/dev/null | sed 's/^/control group /' || true
  find /var/log/containers -lname "$STATE/*" 2>/dev/null | sed 's/^/log link /' || true
  find /var/lib/cni/results -name "$NAME-*" 2>/dev/null | sed 's/^/address /' || true
  for here in "${foreign_directories[@]}" /opt/containerd /run/netns /etc/cni /opt/cni; do
    if [ -e "$here" ]; then echo "directory $here"; fi
  done
  for here in "${kernel_settings[@]}"; do
    echo "kernel $here $(cat "/proc/sys/$here" 2>/dev/null)"
  done
  find "$(dirname "$STATE")" -path "$STATE*" | sed 's/^/file /'
}
