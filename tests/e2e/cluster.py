"""A cluster with Skein in it, as the end-to-end tests see it: kubectl, the skein program, and waiting with a deadline.

Needs KUBECONFIG, the images localhost/skein:dev and localhost/hello:dev in the cluster, and the chart installed.
"""

import atexit
import json
import os
import pathlib
import subprocess
import time
import unittest
import uuid

HERE = pathlib.Path(__file__).parent
SYSTEM = os.environ.get("SKEIN_SYSTEM_NAMESPACE", "skein-system")
SKEIN = os.environ.get("SKEIN_BINARY", "skein")
SCRIPT = (HERE / "agent.py").read_text()

TRUTH = 10  # seconds within which a status must be true; a busy machine gets three times as long
told: dict[str, float] = {}  # how long it took, by test and condition


@atexit.register
def say_what_took_longest() -> None:
    if told:
        test, worst = max(told.items(), key=lambda pair: pair[1])
        late = sum(1 for took in told.values() if took > TRUTH)
        print(f"{len(told)} times a status had to become true: after {worst:.1f} s at worst ({test}); {late} later than {TRUTH} s")


def run(*words: str, input: str | bytes | None = None, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess:
    """Runs a program to its end; its output is bytes only where the input was."""
    done = subprocess.run(words, input=input, capture_output=True, text=not isinstance(input, bytes), timeout=timeout)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr}{done.stdout}")
    return done


def kubectl(*words: str, **options) -> str:
    return run("kubectl", *words, **options).stdout


def get(*words: str) -> dict | None:
    """One object or list, or None when it is not there."""
    done = run("kubectl", "get", "-o", "json", *words, check=False)
    if done.returncode != 0:
        if "NotFound" in done.stderr:
            return None
        raise AssertionError(done.stderr)
    return json.loads(done.stdout)


def wait_for(what: str, look, seconds: float = 60):
    """Looks until the answer is true, and returns it. What was seen last is in the failure."""
    ends = time.monotonic() + seconds
    while True:
        try:
            seen = look()
        except (AssertionError, subprocess.TimeoutExpired) as error:
            seen, problem = None, error
        else:
            problem = None
        if seen:
            return seen
        if time.monotonic() > ends:
            raise AssertionError(f"after {seconds:.0f} s still waiting for: {what}; last seen: {problem or seen!r}")
        time.sleep(0.2)


def conditions(thing: dict | None) -> dict[str, dict]:
    return {c["type"]: c for c in ((thing or {}).get("status") or {}).get("conditions", [])}


class Case(unittest.TestCase):
    """Each test has a namespace of its own, under the strictest Pod Security standard."""

    maxDiff = None

    def setUp(self):
        self.namespace = f"e2e-{uuid.uuid4().hex[:8]}"
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": self.namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})
        self.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": self.metadata("agent"), "data": {"agent.py": SCRIPT}})
        self.addCleanup(kubectl, "delete", "namespace", self.namespace, "--wait=false", check=False)

    # --- What a user declares

    def metadata(self, name: str) -> dict:
        return {"name": name, "namespace": self.namespace}

    def apply(self, *things: dict) -> None:
        kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(things)}))

    def pool(self, name: str, mode: str = "echo", replicas: int = 1, environment: dict | None = None, container: dict | None = None, **spec) -> dict:
        """A pool of agents that behave as agent.py says of the mode."""
        variables = {"MODE": mode, **(environment or {})}
        agent = {"name": "agent", "image": "localhost/hello:dev", "imagePullPolicy": "IfNotPresent",
                 "command": ["/usr/bin/python3", "/script/agent.py"],
                 "env": [{"name": key, "value": value} for key, value in variables.items()],
                 "volumeMounts": [{"name": "script", "mountPath": "/script"}], **(container or {})}
        template = {"spec": {"containers": [agent], "volumes": [{"name": "script", "configMap": {"name": "agent"}}]}}
        spec = {"replicas": replicas, "template": template, "agent": {"port": 8080}, "drainTimeoutSeconds": 30, **spec}
        return {"apiVersion": "skein.dev/v1alpha1", "kind": "AgentPool", "metadata": self.metadata(name), "spec": spec}

    def topology(self, name: str, *members: str | dict, architecture: str = "Flat") -> dict:
        members = [{"pool": member} if isinstance(member, str) else member for member in members]
        return {"apiVersion": "skein.dev/v1alpha1", "kind": "Topology", "metadata": self.metadata(name),
                "spec": {"architecture": architecture, "members": members}}

    # --- What a user sees

    def get(self, kind: str, name: str) -> dict | None:
        return get("-n", self.namespace, kind, name)

    def condition(self, kind: str, name: str, type: str, status: str, reason: str | None = None, seconds: float = 60, says: str = "") -> dict:
        """Waits until a condition is as said."""
        def look():
            found = conditions(self.get(kind, name)).get(type)
            fits = found and found["status"] == status and reason in (None, found["reason"]) and says in found["message"]
            return found if fits else None
        try:
            return wait_for(f"{type}={status} {reason or ''} {says!r} on {kind}/{name}", look, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; conditions: {json.dumps(conditions(self.get(kind, name)), indent=1)}") from None

    def truth(self, kind: str, name: str, type: str, status: str, reason: str | None = None, says: str = "") -> dict:
        """A condition that must be true a moment after what was done just now; notes how long it took."""
        began = time.monotonic()
        found = self.condition(kind, name, type, status, reason, seconds=3 * TRUTH, says=says)
        told[f"{self._testMethodName}, {type}={status} of {kind}/{name}"] = time.monotonic() - began
        return found

    def ready(self, topology: str, seconds: float = 120) -> None:
        self.condition("topology", topology, "Ready", "True", seconds=seconds)

    def pods(self, pool: str) -> list[dict]:
        return get("-n", self.namespace, "pods", "-l", f"skein.dev/pool={pool}")["items"]

    def submit(self, topology: str, pool: str, data: str = "", wait: int | None = 60, check: bool = True) -> subprocess.CompletedProcess:
        words = [SKEIN, "submit", topology, "-n", self.namespace, "--to", pool, "-d", data]
        return run(*words, *([] if wait is None else [f"--wait={wait}"]), check=check, timeout=(wait or 0) + 60)

    def start(self, topology: str, pool: str, data: str = "", wait: int = 120) -> subprocess.Popen:
        """A task whose result is collected later."""
        task = subprocess.Popen([SKEIN, "submit", topology, "-n", self.namespace, "--to", pool, "-d", data, f"--wait={wait}"],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(task.communicate)
        self.addCleanup(task.kill)
        return task

    def finish(self, task: subprocess.Popen, seconds: float = 120) -> str:
        out, errors = task.communicate(timeout=seconds)
        self.assertEqual(task.returncode, 0, errors)
        return out

    def logged(self, pod: str, text: str, **options) -> bool:
        """Whether the agent has written this, in this life or the one before."""
        logs = run("kubectl", "logs", "-n", self.namespace, pod, "-c", "agent", check=False).stdout
        return text in logs
