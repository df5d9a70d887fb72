"""The reviewer: checks that every citation of a draft really is in the corpus, and that the answer says what it cites.

The agent of the pool `reviewer`. It sends nothing; its result says whether the draft may go out, and if not, why.
"""

import hashlib
import json
import os
import re

from agent import Refused, Task, serve
from retrieval import read_corpus

NOTHING_FOUND = "The corpus has no passage that answers this question."
QUOTED = re.compile(r"“([^“”]*)” \[(\d+)\]")
MARKER = re.compile(r"(?<!\w)\[(\d+)\]")


def shown(quote: str) -> str:
    """A quotation as an answer shows it: on one line, and with no curly quotation marks inside."""
    return re.sub("[“”]", '"', " ".join(quote.split()))


def markers(answer: str) -> list[int]:
    """The numbers that the answer cites. Brackets inside quotations are text, not citations."""
    return [int(number) for number in MARKER.findall(re.sub(r"“[^“”]*”", "", answer))]


def review(corpus: dict[str, bytes], answer: str, citations: list[dict]) -> list[dict]:
    """The problems of a draft; none means approved."""
    problems = []

    def refuse(number: int, problem: str, message: str):
        problems.append({"n": number, "problem": problem, "message": message})

    cited = set(markers(answer))
    for citation in citations:
        number, document = citation["n"], citation["document"]
        quote = citation["quote"].encode()
        start, end = citation["offset"], citation["offset"] + citation["length"]
        if document not in corpus:
            refuse(number, "UnknownDocument", f"the corpus has no document {document}")
        elif start < 0 or corpus[document][start:end] != quote:
            refuse(number, "NotVerbatim", f"the quotation is not what {document} has at byte {start}")
        elif hashlib.sha256(quote).hexdigest() != citation["sha256"]:
            refuse(number, "WrongDigest", "the digest is not that of the quotation")
        if number not in cited:
            refuse(number, "Unused", f"the answer does not use citation [{number}]")
    quotes = {citation["n"]: shown(citation["quote"]) for citation in citations}
    for number in sorted(cited - quotes.keys()):
        refuse(number, "Unknown", f"the answer cites [{number}], and there is no such citation")
    for quote, number in QUOTED.findall(answer):
        if int(number) in quotes and shown(quote) not in quotes[int(number)]:
            refuse(int(number), "Misquoted", f"the answer quotes [{number}] with words that it does not have")
    if not cited and answer != NOTHING_FOUND:
        refuse(0, "Uncited", "the answer cites nothing")
    return problems


def verdict(problems: list[dict]) -> dict:
    return {"approved": not problems, "problems": problems}


if __name__ == "__main__":
    corpus = read_corpus(os.environ.get("CORPUS", "/corpus"))

    def handle(task: Task) -> bytes:
        answer, citations = task.json("answer", "citations")
        try:
            return json.dumps(verdict(review(corpus, answer, citations))).encode()
        except (KeyError, TypeError, AttributeError) as error:
            raise Refused(f"a citation has n, document, offset, length, quote and sha256: {error}") from None

    serve(handle)
