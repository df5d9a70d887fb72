"""What a user can get wrong: the resource says so within ten seconds, in words that say what to do."""

import os
import tempfile
import unittest

from cluster import Case, run, wait_for


class BadPools(Case):
    def test_an_image_that_does_not_exist(self):
        self.apply(self.pool("p", container={"image": "localhost/nobody-has-this:1"}))
        self.truth("agentpool", "p", "Degraded", "True", reason="ImageCannotBePulled", says="localhost/nobody-has-this:1")
        self.condition("agentpool", "p", "Ready", "False")

    def test_a_container_that_exits_at_once(self):
        self.apply(self.pool("p", mode="exit"))
        self.truth("agentpool", "p", "Degraded", "True", reason="CrashLoop", says="exit code 3")

    def test_an_agent_on_the_wrong_port(self):
        self.apply(self.pool("p", environment={"PORT": "9999"}), self.topology("t", "p"))
        self.truth("agentpool", "p", "Ready", "False", says="8080")

    def test_a_quota_that_is_used_up(self):
        self.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": self.metadata("q"), "spec": {"hard": {"pods": "0"}}})
        self.apply(self.pool("p"))
        self.truth("agentpool", "p", "Degraded", "True", says="quota")
        run("kubectl", "delete", "resourcequota", "-n", self.namespace, "q")
        self.condition("agentpool", "p", "Degraded", "False", seconds=120)

    def test_a_pool_without_a_topology_says_so(self):
        self.apply(self.pool("p"))
        self.truth("agentpool", "p", "Ready", "False", reason="NoTopology")

    def test_a_reserved_port(self):
        self.apply(self.pool("p", agent={"port": 7801}))
        self.truth("agentpool", "p", "Accepted", "False", says="7801")

    def test_a_foreign_pod_is_not_touched(self):
        container = {"name": "c", "image": "localhost/hello:dev", "securityContext": {"allowPrivilegeEscalation": False, "runAsNonRoot": True,
                     "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}}
        self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": self.metadata("p-0"), "spec": {"containers": [container]}})
        before = self.get("pod", "p-0")["metadata"]["uid"]
        self.apply(self.pool("p", replicas=2), self.topology("t", "p"))
        self.truth("agentpool", "p", "Degraded", "True", reason="NameTaken", says="p-0")
        self.assertEqual(self.get("pod", "p-0")["metadata"]["uid"], before)


class BadTopologies(Case):
    def test_a_pool_that_is_missing(self):
        self.apply(self.pool("p"), self.topology("t", "p", "ghost"))
        self.truth("topology", "t", "ResolvedRefs", "False", reason="PoolNotFound", says="ghost")
        self.truth("topology", "t", "Programmed", "True")

    def test_a_pool_that_is_named_twice(self):
        with self.assertRaisesRegex(AssertionError, "Duplicate value"):
            self.apply(self.topology("t", "p", "p"))

    def test_a_cycle_of_managers(self):
        cycle = self.topology("t", {"pool": "a", "manager": "b"}, {"pool": "b", "manager": "a"}, architecture="Hierarchical")
        self.apply(cycle)
        self.truth("topology", "t", "Accepted", "False", reason="ManagerCycle", says="a -> b -> a")

    def test_a_pool_of_another_topology(self):
        self.apply(self.pool("p"), self.topology("first", "p"))
        self.truth("topology", "first", "Programmed", "True")
        self.apply(self.topology("second", "p"))
        self.truth("topology", "second", "ResolvedRefs", "False", reason="PoolInAnotherTopology", says="first")
        run("kubectl", "delete", "topology", "-n", self.namespace, "first")
        self.truth("topology", "second", "ResolvedRefs", "True")


class BadTasks(Case):
    def test_tasks_that_cannot_be_sent(self):
        self.apply(self.pool("p"), self.pool("off", operatingMode="Suspended"), self.topology("t", "p", "off"))
        self.condition("agentpool", "p", "Ready", "True", seconds=120)
        with tempfile.NamedTemporaryFile() as large:
            large.write(os.urandom(20 << 20))
            large.flush()
            done = run(os.environ.get("SKEIN_BINARY", "skein"), "submit", "t", "-n", self.namespace, "--to", "p", "-f", large.name, check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertRegex(done.stderr.lower(), "large|limit")
        for pool, topology, words in [("off", "t", "suspended"), ("nobody", "t", "nobody"), ("p", "nothing", "nothing")]:
            done = self.submit(topology, pool, "x", check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(words, done.stderr.lower())
        self.assertEqual(self.submit("t", "p", "x").stdout, "p-0 did x")

    def test_an_agent_that_always_fails_and_one_that_refuses(self):
        self.apply(self.pool("bad", mode="fail", queue={"maxDeliveries": 2}), self.pool("no", mode="refuse"), self.topology("t", "bad", "no"))
        self.ready("t")
        done = self.submit("t", "bad", "x", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("I always fail", done.stderr)
        self.assertIn("I refuse this task", self.submit("t", "no", "x", check=False).stderr)

    def test_an_agent_that_hangs_in_a_task_is_timed_out(self):
        self.apply(self.pool("p", mode="hang", agent={"port": 8080, "timeoutSeconds": 2}, queue={"maxDeliveries": 2}), self.topology("t", "p"))
        self.ready("t")
        done = self.submit("t", "p", "x", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("2 s", done.stderr)

    def test_an_agent_that_hangs_for_good_is_restarted_by_its_liveness_probe(self):
        self.apply(self.pool("p", agent={"port": 8080, "timeoutSeconds": 3}, health={"heartbeatSeconds": 1, "staleSeconds": 30}), self.topology("t", "p"))
        self.ready("t")
        self.submit("t", "p", "hang for good", wait=1, check=False)
        def restarted():
            statuses = self.pods("p")[0]["status"].get("containerStatuses", [])
            return any(s["name"] == "agent" and s["restartCount"] > 0 for s in statuses)
        wait_for("a restart of the agent's container", restarted, 120)

    def test_two_pools_with_one_capability(self):
        self.apply(self.pool("asker"), self.pool("one", capabilities=["echo.text"]), self.pool("two", capabilities=["echo.text"]),
                   self.topology("t", "asker", "one", "two"))
        self.ready("t")
        seen = {self.submit("t", "asker", f"ask capability=echo.text {i}").stdout.split()[0] for i in range(4)}
        self.assertEqual(seen, {"one-0", "two-0"})
        self.assertIn("echo.text", self.submit("t", "asker", "ask capability=no.such x", check=False).stderr)

    def test_what_the_topology_does_not_allow_is_refused(self):
        self.apply(self.pool("boss"), self.pool("a"), self.pool("b"),
                   self.topology("t", "boss", {"pool": "a", "manager": "boss"}, {"pool": "b", "manager": "boss"}, architecture="Hierarchical"))
        self.ready("t")
        self.assertEqual(self.submit("t", "boss", "ask a hello").stdout, "a-0 did hello")
        self.assertEqual(self.submit("t", "a", "ask boss hello").stdout, "boss-0 did hello")
        refused = self.submit("t", "a", "ask b hello", check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("boss", refused.stderr)


if __name__ == "__main__":
    unittest.main()
