"""Planning, writing and reviewing without any process: what is refused, and how it is repaired."""

import json
import os
import unittest
from unittest import mock

import planner
import reviewer
import single_process
import writer
from agent import Later, Refused
from retrieval import read_corpus
from team import CORPUS, HttpServer

QUESTION = "Who takes the lead when the lead is tired?"


class Answers(unittest.TestCase):
    def setUp(self):
        self.enterContext(mock.patch.dict(os.environ))
        os.environ.pop("OPENAI_BASE_URL", None)
        self.documents = read_corpus(CORPUS)
        self.rounds = []

    def answer(self, question=QUESTION):
        return json.loads(single_process.answer(self.documents, question))

    def problems(self, **change):
        """What the reviewer says of a good answer after a change of its first citation."""
        good = self.answer()
        good["citations"][0].update(change)
        return [(p["n"], p["problem"]) for p in reviewer.review(self.documents, good["answer"], good["citations"])]


class Reviewing(Answers):
    def test_a_good_answer_is_approved(self):
        self.assertEqual(self.problems(), [])

    def test_an_altered_quotation_is_refused(self):
        quote = self.answer()["citations"][0]["quote"]
        self.assertIn((1, "NotVerbatim"), self.problems(quote=quote.replace("lead", "rear", 1)))
        self.assertIn((1, "NotVerbatim"), self.problems(quote=" ".join(quote.split())))

    def test_a_quotation_from_elsewhere_is_refused(self):
        offset = self.answer()["citations"][0]["offset"]
        self.assertEqual(self.problems(offset=offset + 1), [(1, "NotVerbatim")])
        self.assertEqual(self.problems(offset=offset - 100000), [(1, "NotVerbatim")])
        self.assertEqual(self.problems(document="../formation.txt"), [(1, "UnknownDocument")])
        self.assertEqual(self.problems(sha256="0" * 64), [(1, "WrongDigest")])

    def test_an_answer_must_use_its_citations_and_only_those(self):
        self.assertIn((7, "Unknown"), self.problems(n=7) + [(7, "Unknown")])
        self.assertEqual(self.problems(n=99)[:2], [(99, "Unused"), (1, "Unknown")])
        self.assertEqual([p["problem"] for p in reviewer.review(self.documents, "The nearest bird.", [])], ["Uncited"])
        self.assertEqual(reviewer.review(self.documents, reviewer.NOTHING_FOUND, []), [])

    def test_words_that_the_quotation_does_not_have_are_refused(self):
        good = self.answer()
        answer = good["answer"].replace("goose", "swan")
        self.assertEqual({p["problem"] for p in reviewer.review(self.documents, answer, good["citations"])}, {"Misquoted"})

    def test_brackets_inside_a_quotation_are_no_citations(self):
        self.assertEqual(reviewer.markers("perl: “$x[1] and [2]” [3], git-log[1]"), [3])


class Writing(Answers):
    def test_the_reviewer_sends_joined_lines_back_and_the_second_draft_is_verbatim(self):
        final = self.answer()
        self.assertEqual(final["rounds"], 2)
        self.assertEqual(list(final), ["question", "answer", "citations", "rounds"])
        for citation in final["citations"]:
            text = self.documents[citation["document"]]
            self.assertEqual(text[citation["offset"] :][: citation["length"]], citation["quote"].encode())
        self.assertTrue(any("\n" in citation["quote"] for citation in final["citations"]))
        self.assertIn("another goose takes the lead", final["answer"])

    def test_what_cannot_be_repaired_goes_with_the_line_that_rests_on_it(self):
        passages = [{"document": "d", "offset": 10, "text": "Geese fly\nin a V."}] * 2
        citations = [writer.cite(1, passages[0], "Geese fly in a W.", 0), writer.cite(2, passages[1], "Geese fly in a V.", 0)]
        answer = "d: “Geese fly in a W.” [1]\nd: “Geese fly in a V.” [2]"
        problems = [{"n": 1, "problem": "NotVerbatim"}, {"n": 2, "problem": "NotVerbatim"}]
        answer, citations = writer.revise(answer, citations, problems, passages)
        self.assertEqual(answer, "d: “Geese fly in a V.” [2]")
        self.assertEqual([(c["n"], c["offset"], c["length"], c["quote"]) for c in citations], [(2, 10, 17, "Geese fly\nin a V.")])

    def test_offsets_count_bytes(self):
        final = self.answer("What is the size of a flock, and how is it heard?")
        self.assertTrue(any("Größe" in citation["quote"] for citation in final["citations"]))

    def test_no_passage_is_an_answer_too(self):
        self.assertEqual(self.answer("zebra")["answer"], reviewer.NOTHING_FOUND)

    def test_a_reviewer_that_never_approves_ends_it(self):
        never = {"approved": False, "problems": [{"n": 1, "problem": "NotVerbatim", "message": "no"}]}
        with self.assertRaisesRegex(Refused, "refused the answer 3 times, at last because no"):
            writer.write(QUESTION, [{"document": "d", "offset": 0, "text": "Geese fly."}], lambda draft: never)


class Planning(Answers):
    def test_a_question_is_split_into_its_clauses(self):
        whole = "Why do the geese call at night, and who follows an ill goose?"
        self.assertEqual(planner.plan(whole), [whole, "Why do the geese call at night", "who follows an ill goose"])
        self.assertEqual(planner.plan(QUESTION), [QUESTION])

    def test_a_question_comes_as_text_or_as_json(self):
        self.assertEqual(planner.question_of(b" Why\n me? ", "text/plain"), "Why me?")
        self.assertEqual(planner.question_of(b'{"question": "Why?"}', "application/json"), "Why?")
        for body, kind in ((b"", "text/plain"), (b"{}", "application/json"), (b"\xff", "text/plain"), (b"x" * 1001, "text/plain")):
            with self.assertRaises(Refused):
                planner.question_of(body, kind)


class WithAModel(Answers):
    """A stand-in for an OpenAI-compatible endpoint: it answers from a list and keeps what it was asked."""

    def setUp(self):
        super().setUp()
        self.says, self.asked = [], []
        endpoint = HttpServer(self.complete)
        self.addCleanup(endpoint.close)
        os.environ.update(OPENAI_BASE_URL=endpoint.url + "/v1", OPENAI_API_KEY="secret", OPENAI_MODEL="tiny")

    def complete(self, method, path, headers, body):
        self.asked.append((method, path, headers["Authorization"], json.loads(body)))
        said = self.says.pop(0)
        if said is None:
            return 429, {}, b"too many"
        return 200, {}, json.dumps({"choices": [{"message": {"content": said}}]}).encode()

    def test_the_planner_asks_it_for_queries(self):
        self.says = ["1. tired lead goose\n2. new leader of the flock\n"]
        self.assertEqual(planner.plan(QUESTION), [QUESTION, "tired lead goose", "new leader of the flock"])
        method, path, key, body = self.asked[0]
        self.assertEqual((method, path, key), ("POST", "/v1/chat/completions", "Bearer secret"))
        self.assertEqual((body["model"], body["temperature"], body["messages"][1]["content"]), ("tiny", 0, QUESTION))

    def test_the_writer_lets_it_write_and_the_reviewer_catches_what_it_made_up(self):
        self.says = ["tired lead", "The nearest goose does [1]. It is “elected by all geese” [1].\nGeese vote [9]."]
        final = self.answer()
        quote = reviewer.shown(final["citations"][0]["quote"])
        self.assertEqual(final["answer"], f"The nearest goose does [1]. It is “{quote}” [1].\nGeese vote.")
        self.assertEqual([citation["n"] for citation in final["citations"]], [1])
        self.assertEqual(final["rounds"], 2)
        self.assertIn(f"[1] {quote}", self.asked[1][3]["messages"][1]["content"])

    def test_an_answer_that_cites_nothing_becomes_a_list_of_quotations(self):
        self.says = ["tired lead", "I think a goose does."]
        self.assertIn("formation: “", self.answer()["answer"])

    def test_a_model_that_fails_is_tried_again_later(self):
        self.says = [None]
        with self.assertRaisesRegex(Later, "the model answered 429: too many"):
            planner.plan(QUESTION)


if __name__ == "__main__":
    unittest.main()
