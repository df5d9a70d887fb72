"""The searcher in Go and the reference in Python must find the same passages, or no answer can be checked."""

import json
import random
import unittest
import urllib.request

import planner
import retrieval
import single_process
from team import CORPUS, HERE, Team

QUERIES = json.loads((HERE / "testdata/queries.json").read_text())
VECTORS = HERE / "testdata/vectors.json"


class Retrieval(unittest.TestCase):
    def setUp(self):
        self.documents = retrieval.read_corpus(CORPUS)

    def test_terms_are_lower_case_words_without_stop_words_and_plurals(self):
        self.assertEqual(retrieval.terms("The GEESE, wings & glass: x 1500 Größe".encode()), [b"geese", b"wing", b"glass", b"1500", b"gr"])

    def test_scores_are_whole_numbers_that_can_be_computed_by_hand(self):
        self.assertEqual(retrieval.inverse_frequency(1000, 10), 107)  # 16 * log2(100) = 106.3, rounded up
        self.assertEqual(retrieval.weight(2, 30, 20), 22000 * 2 * 20 // (10 * 2 * 20 + 3 * 20 + 9 * 30))

    def test_a_passage_is_what_stands_at_its_offset(self):
        for name, text in self.documents.items():
            for passage in retrieval.passages(name, text):
                self.assertEqual(text[passage.offset :][: len(passage.text)], passage.text)
                self.assertNotIn(b"\n\n", passage.text)
                self.assertLessEqual(len(passage.text), retrieval.PASSAGE_BYTES)

    def test_a_long_paragraph_is_cut_at_the_end_of_a_line(self):
        line = b"w" * 99
        cut = list(retrieval.passages("long", b"\n".join([line] * 30) + b"\n"))
        self.assertEqual([len(passage.text) for passage in cut], [1199, 1199, 599])
        self.assertEqual([passage.offset for passage in cut], [0, 1200, 2400])

    def test_the_committed_vectors_hold(self):
        found = {str(shares): [retrieval.search(self.documents, QUERIES, i, shares, 3) for i in range(shares)] for shares in (1, 3)}
        self.assertEqual(found, json.loads(VECTORS.read_text()))

    def test_shares_together_find_what_the_whole_corpus_has(self):
        for shares in (2, 4, 9):
            found = [retrieval.search(self.documents, QUERIES, share, shares, planner.TOP) for share in range(shares)]
            whole = retrieval.search(self.documents, QUERIES, 0, 1, planner.TOP)
            self.assertEqual(planner.merge(found), planner.merge([whole]))


class Searcher(unittest.TestCase):
    def setUp(self):
        self.team = self.enterContext(Team())

    def compare(self, url, documents, orders):
        for queries, share, shares, top in orders:
            order = json.dumps({"queries": queries, "share": share, "shares": shares, "top": top}).encode()
            with urllib.request.urlopen(urllib.request.Request(url, order)) as response:
                found = json.load(response)["results"]
            self.assertEqual(found, retrieval.search(documents, queries, share, shares, top), queries)

    def test_go_finds_the_committed_vectors(self):
        url, _ = self.team.start("searcher")
        self.compare(url, retrieval.read_corpus(CORPUS), [(QUERIES, i, shares, 3) for shares in (1, 3) for i in range(shares)])

    def test_go_and_python_agree_on_the_real_corpus(self):
        folder = single_process.CACHE / "corpus"
        if not folder.exists():
            self.skipTest("the corpus is not built: run examples/research-team/build")
        documents, chance = retrieval.read_corpus(str(folder)), random.Random(7)
        words = sorted(set(documents["git/git-rebase.txt"].decode().split()))
        orders = [([" ".join(chance.choices(words, k=6)) for _ in range(8)], i, 3, 20) for i in range(3)]
        url, _ = self.team.start("searcher", CORPUS=str(folder))
        self.compare(url, documents, orders)

    def test_a_share_that_does_not_exist_is_refused_for_good(self):
        url, _ = self.team.start("searcher")
        with self.assertRaises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(url, b'{"queries": ["x"], "share": 3, "shares": 3, "top": 1}'))
        self.assertEqual(refused.exception.code, 400)
        self.assertEqual(refused.exception.read(), b"share 3 of 3 does not exist\n")
        refused.exception.close()


if __name__ == "__main__":
    unittest.main()
