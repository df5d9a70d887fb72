"""Sending through the sidecar: what is tried again, what is not, and when it ends."""

import time
import unittest
from unittest import mock

import agent
from team import HttpServer


class Sending(unittest.TestCase):
    def send(self, *answers, seconds=10.0):
        """Sends one task to a sidecar that gives these answers, the last one for ever; returns what it was asked too."""
        asked, left = [], list(answers)

        def answer(method, path, headers, body):
            asked.append((method, path.split("?")[0], headers["Idempotency-Key"], headers["Skein-Task-Id"], body))
            return left.pop(0) if len(left) > 1 else left[0]

        sidecar = HttpServer(answer)
        self.addCleanup(sidecar.close)
        with mock.patch.object(agent, "SKEIN_URL", sidecar.url):
            task = agent.Task("parent", "text/plain", b"", time.monotonic() + seconds)
            return agent.send(task, "searcher", {"share": 1}), asked

    def test_a_repeat_is_the_same_child(self):
        busy = (503, {"Retry-After": "0"}, b"")
        result, asked = self.send(busy, busy, (200, {}, b"done"))
        self.assertEqual(result, b"done")
        self.assertEqual(len(asked), 3)
        self.assertEqual(len(set(asked)), 1, "the same request with the same key")
        self.assertTrue(asked[0][2].startswith("parent:searcher:"))

    def test_a_result_that_takes_its_time_is_asked_for(self):
        result, asked = self.send((202, {}, b'{"id": "child"}'), (202, {"Skein-Task-Id": "child"}, b"{}"), (200, {}, b"done"))
        self.assertEqual(result, b"done")
        self.assertEqual([path for _, path, *_ in asked], ["/v1/tasks"] + ["/v1/tasks/child/result"] * 2)

    def test_a_sidecar_that_has_forgotten_the_child_is_sent_it_again(self):
        result, asked = self.send((202, {}, b'{"id": "child"}'), (404, {}, b"{}"), (200, {}, b"done"))
        self.assertEqual([method for method, *_ in asked], ["POST", "GET", "POST"])

    def test_a_child_that_failed_fails_its_parent_with_its_reason(self):
        with self.assertRaisesRegex(agent.Refused, "^the task for searcher did not complete: share 9 does not exist$"):
            self.send((502, {}, b'{"title": "TaskFailed", "detail": "share 9 does not exist", "outcome": "failed"}'))

    def test_the_task_ends_when_its_time_is_up(self):
        with self.assertRaisesRegex(agent.Later, "the time is up"):
            self.send((503, {}, b""), seconds=0.3)


if __name__ == "__main__":
    unittest.main()
