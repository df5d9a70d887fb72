# Finding an agent that works right now, and killing its process. Sourced.
# shellcheck shell=bash

# restarts_of <namespace> <pool>: how often the kubelet has restarted the agents' containers.
restarts_of() {
  kubectl get pods --namespace "$1" -l "skein.dev/pool=$2" \
    -o jsonpath='{range .items[*].status.containerStatuses[*]}{.restartCount}{"\n"}{end}' | awk '{n += $1} END {print n + 0}'
}

# busy_agent <namespace> <pool> [but not]: the first agent that works on a task, as its sidecar's metrics say.
busy_agent() {
  local agent
  for _ in $(seq 600); do
    for agent in $(kubectl get pods --namespace "$1" -l "skein.dev/pool=$2" -o jsonpath='{.items[*].metadata.name}'); do
      [ "$agent" != "${3-}" ] || continue
      if kubectl get --raw "/api/v1/namespaces/$1/pods/$agent:7801/proxy/metrics" 2>/dev/null |
        grep -qE '^skein_sidecar_tasks_in_flight(\{[^}]*\})? [1-9]'; then
        echo "$agent"
        return
      fi
    done
  done
  echo "no agent of the pool $2 was seen at work" >&2
  return 1
}

# kill_agent <namespace> <agent>: SIGKILL to the agent's process, as the machine would in need of memory. On the local
# cluster the process is found on this machine by the name of the pod in its environment; elsewhere the pod is killed.
kill_agent() {
  local entry
  if [ "${CLUSTER:-local}" != local ]; then
    echo "killing the pod $2"
    kubectl delete pod --namespace "$1" "$2" --grace-period=0 --force --wait=false
    return
  fi
  for entry in /proc/[0-9]*; do
    # Processes end while they are looked at, and some may not be looked at.
    if grep -qzx "HOSTNAME=$2" "$entry/environ" 2>/dev/null &&
      tr '\0' '\n' <"$entry/cmdline" | head -n 1 | grep -qv '^/skein$'; then
      echo "kill -9 ${entry#/proc/}   # $(tr '\0' ' ' <"$entry/cmdline")in $2, while it works"
      kill -9 "${entry#/proc/}"
      return
    fi
  done
  echo "the process of $2 was not found" >&2
  return 1
}
