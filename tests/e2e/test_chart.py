"""The life of the release itself: upgraded, rolled back, uninstalled and installed again, while a team works."""

import json
import pathlib
import tempfile
import unittest

from cluster import SYSTEM, Case, get, kubectl, run, wait_for

ROOT = pathlib.Path(__file__).parents[2]
RELEASE = "skein"


def helm(*words: str) -> str:
    return run("helm", *words, "--namespace", SYSTEM, timeout=300).stdout


def system(kind: str, component: str | None = None) -> dict[str, str]:
    """What the release has of a kind: names and UIDs."""
    selector = f"app.kubernetes.io/instance={RELEASE}" + (f",app.kubernetes.io/component={component}" if component else "")
    return {thing["metadata"]["name"]: thing["metadata"]["uid"] for thing in get("-n", SYSTEM, kind, "-l", selector)["items"]}


class Chart(Case):
    def team(self) -> dict[str, str]:
        self.apply(self.pool("p"), self.topology("t", "p"))
        self.ready("t")
        return self.uids()

    def uids(self) -> dict[str, str]:
        return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in self.pods("p")}

    def test_an_upgrade_and_a_rollback_disturb_no_agent(self):
        agents, broker, controllers = self.team(), system("pods", "nats"), system("pods", "controller")
        task = self.start("t", "p", "sleep 20")
        wait_for("the agent at work", lambda: self.logged("p-0", "begin sleep"))
        helm("upgrade", RELEASE, str(ROOT / "charts/skein"), "--reuse-values", "--set", "logs.level=skein=debug\\,info", "--wait", "--timeout", "180s")
        self.addCleanup(helm, "rollback", RELEASE, "--wait", "--timeout", "180s")
        wait_for("no former controller", lambda: not set(controllers.items()) & set(system("pods", "controller").items()))
        self.assertEqual(self.finish(task), "p-0 did sleep 20")
        self.assertEqual(self.submit("t", "p", "echo after").stdout.strip(), "p-0 did echo after")
        self.assertEqual(system("pods", "nats"), broker, "the broker was restarted for nothing")
        self.assertEqual(self.uids(), agents, "agents were replaced for nothing")

    def test_what_was_declared_outlives_the_release(self):
        agents = self.team()
        done = self.submit("t", "p", "echo before", wait=None).stdout.strip()
        wait_for("its outcome", lambda: self.outcome(done) == "completed")
        values = helm("get", "values", RELEASE, "--output", "json")
        claims = get("-n", SYSTEM, "persistentvolumeclaims")["items"]

        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write(values if json.loads(values) else "{}")
            file.flush()
            try:
                helm("uninstall", RELEASE, "--wait", "--timeout", "180s")
                for kind in ("deployments", "statefulsets", "services", "serviceaccounts", "configmaps", "roles", "rolebindings", "networkpolicies",
                             "poddisruptionbudgets", "clusterroles", "clusterrolebindings"):
                    self.assertEqual(system(kind), {}, f"{kind} are left behind")
                self.assertEqual({crd["metadata"]["name"] for crd in get("crds")["items"] if crd["spec"]["group"] == "skein.dev"},
                                 {"agentpools.skein.dev", "topologies.skein.dev"})
                self.assertEqual(self.uids(), agents)
                self.assertEqual([claim["metadata"]["uid"] for claim in get("-n", SYSTEM, "persistentvolumeclaims")["items"]],
                                 [claim["metadata"]["uid"] for claim in claims])
            finally:
                helm("upgrade", "--install", RELEASE, str(ROOT / "charts/skein"), "--values", file.name, "--wait", "--timeout", "180s")

        self.ready("t")
        self.assertEqual(self.outcome(done), "completed", "the journal is another one")
        self.assertEqual(self.submit("t", "p", "echo after").stdout.strip(), "p-0 did echo after")
        self.assertEqual(self.uids(), agents, "agents were replaced for nothing")

    def outcome(self, task: str) -> str:
        """What the gateway says of a task."""
        path = f"/api/v1/namespaces/{SYSTEM}/services/http:skein-gateway:80/proxy/v1/namespaces/{self.namespace}/topologies/t/tasks/{task}"
        return json.loads(kubectl("get", "--raw", path))["outcome"]


if __name__ == "__main__":
    unittest.main()
