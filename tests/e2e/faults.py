"""Faults that only the machine of the local cluster can make: killing processes in containers, stopping the API server.

Every process that is signalled belongs to the local cluster: found by the pod's name in its environment, or by the
cluster's own process ids.
"""

import contextlib
import json
import os
import pathlib
import signal
import time

from cluster import SYSTEM, get, kubectl, wait_for

STATE = pathlib.Path(os.environ.get("SKEIN_LOCAL") or
                     pathlib.Path(os.environ.get("XDG_STATE_HOME") or pathlib.Path.home() / ".local/state") / "skein/local")


def processes(pod: str, marker: str) -> list[int]:
    """The processes in containers of a pod whose command line holds a word."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                environment = (entry / "environ").read_bytes().split(b"\0")
                command = (entry / "cmdline").read_bytes()
                if f"HOSTNAME={pod}".encode() in environment and marker.encode() in command:
                    found.append(int(entry.name))
    return found


def kill_agent(pod: str, marker: str = "agent.py") -> float:
    """SIGKILLs the agent's process; the time of the kill on the monotonic clock."""
    victims = processes(pod, marker)
    assert victims, f"no process of {marker} in pod {pod}"
    at = time.monotonic()
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    return at


def kill_pod_processes(pod: str) -> None:
    """SIGKILLs agent and sidecar at once, as a node that dies does."""
    for victim in processes(pod, "sidecar") + processes(pod, "agent.py"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)


@contextlib.contextmanager
def api_server_stopped():
    """The API server answers nobody meanwhile."""
    server = int((STATE / "run" / "kube-apiserver.pid").read_text().split()[0])
    assert b"kube-apiserver" in pathlib.Path(f"/proc/{server}/cmdline").read_bytes()
    os.kill(server, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server, signal.SIGCONT)


def nats() -> str:
    """The name of the broker's StatefulSet."""
    items = get("-n", SYSTEM, "statefulset", "-l", "app.kubernetes.io/component=nats")["items"]
    return items[0]["metadata"]["name"]


@contextlib.contextmanager
def nats_stopped(wiped: bool = False):
    """The broker is away meanwhile, and has lost its data when it was wiped."""
    name = nats()
    kubectl("scale", "-n", SYSTEM, "statefulset", name, "--replicas=0")
    wait_for("the broker to end", lambda: get("-n", SYSTEM, "pod", f"{name}-0") is None, 90)
    try:
        if wiped:
            claims = get("-n", SYSTEM, "pvc", "-l", "app.kubernetes.io/component=nats")["items"]
            assert claims, "the broker has no claim to wipe"
            for claim in claims:
                kubectl("delete", "-n", SYSTEM, "pvc", claim["metadata"]["name"], "--timeout=60s")
        yield
    finally:
        kubectl("scale", "-n", SYSTEM, "statefulset", name, "--replicas=1")
        kubectl("rollout", "status", "-n", SYSTEM, f"statefulset/{name}", "--timeout=120s")


def leader() -> str | None:
    """The pod that leads; None while nobody does, as between one that gave the lease back and the next."""
    leases = json.loads(kubectl("get", "lease", "-n", SYSTEM, "-o", "json"))["items"]
    holders = [lease["spec"].get("holderIdentity") for lease in leases if lease["metadata"]["name"].startswith("skein")]
    return next(filter(None, holders), None)
