"""The whole team as processes, with and without trouble: the answer must be that of the single process, byte for byte."""

import signal
import unittest
import urllib.error
import urllib.request

import single_process
from retrieval import read_corpus
from team import CORPUS, PATIENCE, HttpServer, Team

QUESTION = "Who takes the lead when it is tired, and what happens to an ill goose?"
NEVER = str(600_000)  # a pace so slow that only a kill ends the search


class TheTeam(unittest.TestCase):
    def setUp(self):
        self.expected = single_process.answer(read_corpus(CORPUS), QUESTION)
        self.team = self.enterContext(Team())
        self.skein = self.team.skein
        for pool in ("writer", "reviewer"):
            self.team.start(pool)

    def assert_answers(self, future):
        self.assertEqual(future.result(PATIENCE), (200, self.expected))
        searches = {task for pool, task, _, _ in self.skein.deliveries if pool == "searcher"}
        self.assertEqual(len(searches), 6, "each share is one task, whatever happened")

    def test_answers_as_the_single_process_does(self):
        self.team.start("planner")
        self.team.start("searcher")
        self.team.start("searcher")
        self.assert_answers(self.team.ask(QUESTION))
        pools = [pool for pool, *_ in self.skein.deliveries]
        self.assertEqual((pools.count("writer"), pools.count("reviewer")), (1, 2), "the first draft was sent back")

    def test_a_searcher_is_killed_and_another_one_fails_in_the_middle_of_a_share(self):
        self.team.start("planner")
        broken = HttpServer(lambda *_: (500, {}, b"broken"))
        self.addCleanup(broken.close)
        self.team.join("searcher", broken.url)
        slow, victim = self.team.start("searcher", SEARCH_PACE_MILLISECONDS=NEVER)
        self.team.start("searcher")
        answer = self.team.ask(QUESTION)
        self.skein.wait_for(lambda done: any(agent == slow for _, _, _, agent in done))
        self.assertFalse(answer.done())
        victim.kill()
        self.assert_answers(answer)
        self.assertTrue(any(attempt > 1 for _, _, attempt, _ in self.skein.deliveries))

    def test_a_planner_is_killed_and_its_successor_finds_the_searches_that_it_sent(self):
        _, first = self.team.start("planner")
        slow, victim = self.team.start("searcher", SEARCH_PACE_MILLISECONDS=NEVER)
        answer = self.team.ask(QUESTION)
        self.skein.wait_for(lambda done: len({task for _, task, _, agent in done if agent == slow}) == 6)
        first.kill()
        first.wait()
        self.team.start("planner")
        self.skein.wait_for(lambda done: sum(pool == "planner" for pool, *_ in done) == 2)
        self.team.start("searcher")
        victim.kill()
        self.assert_answers(answer)

    def test_sigterm_lets_an_agent_finish_its_task_and_healthz_answers_meanwhile(self):
        planner, process = self.team.start("planner")
        slow, victim = self.team.start("searcher", SEARCH_PACE_MILLISECONDS=NEVER)
        answer = self.team.ask(QUESTION)
        self.skein.wait_for(lambda done: any(agent == slow for _, _, _, agent in done))
        process.send_signal(signal.SIGTERM)
        with urllib.request.urlopen(planner + "healthz") as response:
            self.assertEqual(response.status, 200)
        self.team.start("searcher")
        victim.kill()
        self.assert_answers(answer)
        self.assertEqual(process.wait(PATIENCE), 0)

    def test_a_question_that_is_none_is_refused_for_good(self):
        self.team.start("planner")
        status, reason = self.team.ask(" ").result(PATIENCE)
        self.assertEqual((status, reason), (422, b"a question has 1 to 1000 characters"))


if __name__ == "__main__":
    unittest.main()
