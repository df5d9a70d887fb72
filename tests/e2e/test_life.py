"""The life of pools and topologies on a real kubelet: scaling, rolling out, suspending, deleting, with work in flight."""

import json
import unittest

from cluster import Case, get, kubectl, run, wait_for


class Life(Case):
    def test_scale_up_and_down_and_suspend_and_resume(self):
        self.apply(self.pool("p", replicas=1), self.topology("t", "p"))
        self.ready("t")
        kubectl("scale", "-n", self.namespace, "agentpool", "p", "--replicas=3")
        wait_for("three ready agents", lambda: self.get("agentpool", "p")["status"].get("readyReplicas") == 3, 90)
        kubectl("scale", "-n", self.namespace, "agentpool", "p", "--replicas=1")
        wait_for("one pod", lambda: [p["metadata"]["name"] for p in self.pods("p")] == ["p-0"], 90)
        kubectl("patch", "-n", self.namespace, "agentpool", "p", "--type=merge", "-p", '{"spec":{"operatingMode":"Suspended"}}')
        wait_for("no pod", lambda: not self.pods("p"), 90)
        self.condition("agentpool", "p", "Ready", "False", reason="Suspended")
        kubectl("patch", "-n", self.namespace, "agentpool", "p", "--type=merge", "-p", '{"spec":{"operatingMode":"Running"}}')
        self.condition("agentpool", "p", "Ready", "True", seconds=90)

    def test_the_busiest_agent_is_the_last_to_go(self):
        self.apply(self.pool("p", replicas=2), self.topology("t", "p"))
        self.ready("t")
        wait_for("two ready agents", lambda: self.get("agentpool", "p")["status"].get("readyReplicas") == 2, 90)
        task = self.start("t", "p", "sleep 40")
        busy = wait_for("an agent at work", lambda: next((p["metadata"]["name"] for p in self.pods("p") if self.logged(p["metadata"]["name"], "begin sleep")), None))
        wait_for("a busy agent in the status", lambda: self.get("agentpool", "p")["status"].get("busyReplicas") == 1, 40)
        kubectl("scale", "-n", self.namespace, "agentpool", "p", "--replicas=1")
        left = wait_for("one pod", lambda: (pods := [p["metadata"]["name"] for p in self.pods("p")]) and len(pods) == 1 and pods, 60)
        self.assertEqual(left, [busy])
        self.assertEqual(self.finish(task), f"{busy} did sleep 40")

    def test_a_new_template_is_rolled_out_without_losing_a_task(self):
        self.apply(self.pool("p", replicas=2), self.topology("t", "p"))
        self.condition("agentpool", "p", "Ready", "True", seconds=120)
        before = {p["metadata"]["uid"] for p in self.pods("p")}
        tasks = [self.start("t", "p", f"sleep {seconds}") for seconds in (4, 5)]
        self.apply(self.pool("p", replicas=2, environment={"VERSION": "2"}))
        for task in tasks:
            self.finish(task)
        def replaced():
            pods = self.pods("p")
            return len(pods) == 2 and not before & {p["metadata"]["uid"] for p in pods}
        wait_for("two new pods", replaced, 120)
        self.condition("agentpool", "p", "Ready", "True", seconds=90)
        self.assertEqual(self.get("agentpool", "p")["status"]["updatedReplicas"], 2)

    def test_a_pool_is_deleted_with_work_in_flight(self):
        self.apply(self.pool("p"), self.topology("t", "p"))
        self.ready("t")
        task = self.start("t", "p", "sleep 6")
        wait_for("the agent at work", lambda: self.logged("p-0", "begin sleep"))
        kubectl("delete", "agentpool", "-n", self.namespace, "p", "--wait=false")
        self.assertEqual(self.finish(task), "p-0 did sleep 6")
        wait_for("the pod to go", lambda: not self.pods("p"), 90)
        self.condition("topology", "t", "ResolvedRefs", "False", reason="PoolNotFound")

    def test_a_pool_that_comes_again_adopts_its_agents(self):
        self.apply(self.pool("p", replicas=2), self.topology("t", "p"))
        self.condition("agentpool", "p", "Ready", "True", seconds=120)
        before = {p["metadata"]["uid"] for p in self.pods("p")}
        kubectl("delete", "agentpool", "-n", self.namespace, "p", "--cascade=orphan")
        wait_for("two orphans", lambda: [p for p in self.pods("p") if not p["metadata"].get("ownerReferences")][1:], 60)
        self.apply(self.pool("p", replicas=2))
        self.condition("agentpool", "p", "Ready", "True", seconds=60)
        self.assertEqual({p["metadata"]["uid"] for p in self.pods("p")}, before)
        self.assertTrue(all(p["metadata"].get("ownerReferences") for p in self.pods("p")))

    def test_a_topology_is_deleted_with_its_pools_still_there(self):
        self.apply(self.pool("p"), self.topology("t", "p"))
        self.ready("t")
        task = self.start("t", "p", "sleep 5")
        wait_for("the agent at work", lambda: self.logged("p-0", "begin sleep"))
        kubectl("delete", "topology", "-n", self.namespace, "t", "--wait=false")
        self.assertEqual(self.finish(task), "p-0 did sleep 5")
        wait_for("the topology to go", lambda: self.get("topology", "t") is None, 90)
        self.condition("agentpool", "p", "Ready", "False", reason="NoTopology")

    def test_the_namespace_is_deleted(self):
        self.apply(self.pool("p", replicas=2), self.topology("t", "p"))
        self.ready("t")
        kubectl("delete", "namespace", self.namespace, "--wait=false")
        wait_for("the namespace to go", lambda: get("namespace", self.namespace) is None, 180)

    def test_pods_satisfy_pod_security_restricted_and_hold_no_token(self):
        self.apply(self.pool("p"), self.topology("t", "p"))
        self.ready("t")
        pod = self.pods("p")[0]
        self.assertIs(pod["spec"]["automountServiceAccountToken"], False)
        self.assertNotIn("kube-api-access", json.dumps(pod["spec"].get("volumes")))
        disruption = self.get("poddisruptionbudget", "p")
        self.assertEqual(disruption["spec"]["maxUnavailable"], 1)

    def test_explain_reads_well(self):
        text = kubectl("explain", "agentpool.spec")
        for words in ("template describes the pods", "drainTimeoutSeconds", "operatingMode"):
            self.assertIn(words, text)

    def test_status_of_the_plugin(self):
        self.apply(self.pool("p", replicas=2), self.topology("t", "p"))
        self.condition("agentpool", "p", "Ready", "True", seconds=120)
        self.ready("t")
        import os
        done = run(os.environ.get("SKEIN_BINARY", "skein"), "status", "t", "-n", self.namespace, "-o", "json")
        self.assertIn('"p"', done.stdout)


if __name__ == "__main__":
    unittest.main()
