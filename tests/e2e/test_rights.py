"""The rights that the chart grants, held against the audit log of everything that ran before."""

import json
import unittest

import faults
from cluster import SYSTEM, get


class Rights(unittest.TestCase):
    def test_the_controller_was_refused_nothing_for_lack_of_a_right(self):
        log = faults.STATE / "audit.log"
        if not log.exists():
            self.skipTest("only the local cluster writes an audit log")
        user, refused, asked = f"system:serviceaccount:{SYSTEM}:skein-controller", set(), set()
        # A release that is uninstalled loses its rights before it has ended: what counts is since this one was installed.
        since = get("clusterrole", "skein-controller")["metadata"]["creationTimestamp"]
        with log.open() as lines:
            for line in lines:
                if user not in line:
                    continue
                event = json.loads(line)
                if event["user"]["username"] != user or event["stage"] != "ResponseComplete" or event["requestReceivedTimestamp"] < since:
                    continue
                resource = event.get("objectRef", {})
                asked.add((event["verb"], resource.get("resource")))
                # Admission refuses with 403, too, as with a quota; authorization says so.
                if event.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid":
                    refused.add((event["verb"], resource.get("resource"), resource.get("subresource")))
        self.assertIn(("list", "pods"), asked)
        self.assertEqual(refused, set())


if __name__ == "__main__":
    unittest.main()
