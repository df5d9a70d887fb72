"""How a passage is found. The searcher's `search.go` is the same algorithm in Go.

Everything is counted in whole numbers and on bytes, so that both languages, and every machine, give the same passages
in the same order: `testdata/vectors.json` holds them to it.
"""

import os
import re
from dataclasses import dataclass

WORD = re.compile(rb"[a-z0-9]+")
STOP = frozenset(
    b"an and are as at be been but by can could did do does for from had has have how if in into is it its may me might"
    b" my no not of on one or our should so some such than that the their them then there these they this to was we were"
    b" what when where which who why will with would you your".split()
)
PASSAGE_BYTES = 1200  # a longer paragraph is cut at the end of a line
PASSAGE_TERMS = 8  # a shorter one is a heading or a fragment, and no passage


@dataclass(frozen=True)
class Passage:
    document: str
    offset: int
    text: bytes


def terms(text: bytes) -> list[bytes]:
    """The words that count: lower case, no stop words, no single letters, plurals cut."""
    return [stem(word) for word in WORD.findall(text.lower()) if len(word) > 1 and word not in STOP]


def stem(word: bytes) -> bytes:
    return word[:-1] if len(word) > 3 and word.endswith(b"s") and not word.endswith(b"ss") else word


def read_corpus(folder: str) -> dict[str, bytes]:
    """Every `.txt` file under the folder, by its path, in the order of the paths' bytes."""
    paths = []
    for parent, _, names in os.walk(folder):
        paths += [os.path.join(parent, name) for name in names if name.endswith(".txt")]
    if not paths:
        raise SystemExit(f"there is no corpus: {folder} holds no .txt file")
    named = {os.path.relpath(path, folder): path for path in paths}
    documents = {}
    for name in sorted(named):
        with open(named[name], "rb") as file:
            documents[name] = file.read()
    return documents


def passages(document: str, text: bytes):
    """The paragraphs of a document: runs of lines between empty lines, at most PASSAGE_BYTES long."""
    start = end = offset = 0
    for line in text.split(b"\n"):
        after = offset + len(line)
        if end > start and (not line or after - start > PASSAGE_BYTES):
            yield Passage(document, start, text[start:end])
            start = end = offset
        if line:
            if end == start:
                start = offset
            end = after
        offset = after + 1
    if end > start:
        yield Passage(document, start, text[start:end])


def inverse_frequency(all_passages: int, having: int) -> int:
    """How rare a term is: sixteen times the base-2 logarithm, without a float."""
    return (all_passages**16 // having**16).bit_length()


def weight(count: int, length: int, mean: int) -> int:
    """BM25 with k1 = 1.2 and b = 0.75, multiplied by 1000 and rounded down."""
    return 22000 * count * mean // (10 * count * mean + 3 * mean + 9 * length)


def search(documents: dict[str, bytes], queries: list[str], share: int, shares: int, top: int) -> list[list[dict]]:
    """The best passages of one share for each query. How rare a term is comes from the whole corpus, so that the scores
    of different shares can be compared; share i has the documents whose place in the order is i modulo `shares`."""
    wanted = [list(dict.fromkeys(terms(query.encode()))) for query in queries]
    every = {term for query in wanted for term in query}
    having = dict.fromkeys(every, 0)
    seen = length_of_all = 0
    hits = []
    for place, (name, text) in enumerate(documents.items()):
        for passage in passages(name, text):
            found = terms(passage.text)
            if len(found) < PASSAGE_TERMS:
                continue
            seen += 1
            length_of_all += len(found)
            counts = {}
            for term in found:
                if term in every:
                    counts[term] = counts.get(term, 0) + 1
            for term in counts:
                having[term] += 1
            if counts and place % shares == share:
                hits.append((passage, len(found), counts))
    if not seen:
        return [[] for _ in queries]
    mean = length_of_all // seen
    rarity = {term: inverse_frequency(seen, count) for term, count in having.items() if count}
    return [best(hits, query, rarity, mean, top) for query in wanted]


def best(hits, query: list[bytes], rarity: dict[bytes, int], mean: int, top: int) -> list[dict]:
    scored = []
    for passage, length, counts in hits:
        score = sum(rarity[term] * weight(counts[term], length, mean) for term in query if term in counts)
        if score:
            scored.append((-score, passage.document, passage.offset, passage))
    scored.sort(key=lambda hit: hit[:3])
    return [
        {"document": document, "offset": offset, "score": -score, "text": passage.text.decode()}
        for score, document, offset, passage in scored[:top]
    ]
