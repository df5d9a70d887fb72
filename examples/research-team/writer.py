"""The writer: composes an answer from passages, with citations, and repairs it until the reviewer approves.

The agent of the pool `writer`. It sends its drafts to its peer, the pool `reviewer`. Its first draft quotes as people
do: with the lines of the source joined. That is not verbatim, so the reviewer sends most first drafts back.
"""

import hashlib
import json
import re

import model
from agent import Refused, Task, send, serve
from retrieval import terms
from reviewer import NOTHING_FOUND, QUOTED, markers, shown

ROUNDS = 3
NOT_IN_THE_CORPUS = ("NotVerbatim", "WrongDigest", "UnknownDocument")
SENTENCE = re.compile(r"\S.*?(?:[.!?:][\"')`]*(?=\s+[A-Z`'\"(]|\s*$)|$)", re.S)

INSTRUCTIONS = (
    "Answer the question in a few sentences, from the numbered quotations alone. After each statement put the number of"
    " the quotation that it rests on in square brackets, like [1]. Put quoted words between “ and ”, unchanged."
)


def pick(question: str, text: str) -> str:
    """The sentence of a passage that has the most words of the question; the first of several."""
    asked = set(terms(question.encode()))
    sentences = SENTENCE.findall(text)
    return max(sentences, key=lambda sentence: len(asked & set(terms(sentence.encode()))), default=text)


def distinct(question: str, passages: list[dict]) -> list[dict]:
    """The passages without those that would be quoted with the same words as an earlier one."""
    by_words = {}
    for passage in passages:
        by_words.setdefault(shown(pick(question, passage["text"])), passage)
    return list(by_words.values())


def cite(number: int, passage: dict, quote: str, start: int) -> dict:
    """A citation of a part of a passage that starts at this character of it."""
    encoded = quote.encode()
    return {
        "n": number,
        "document": passage["document"],
        "offset": passage["offset"] + len(passage["text"][:start].encode()),
        "length": len(encoded),
        "quote": quote,
        "sha256": hashlib.sha256(encoded).hexdigest(),
    }


def draft(question: str, passages: list[dict]) -> tuple[str, list[dict]]:
    citations = []
    for number, passage in enumerate(passages, 1):
        sentence = pick(question, passage["text"])
        citations.append(cite(number, passage, " ".join(sentence.split()), passage["text"].index(sentence)))
    if not citations:
        return NOTHING_FOUND, []
    quotations = "\n".join(f"[{citation['n']}] {citation['quote']}" for citation in citations)
    said = model.complete(INSTRUCTIONS, f"Question: {question}\n\n{quotations}")
    return said.strip() if said else listing(citations), citations


def listing(citations: list[dict]) -> str:
    """An answer without a model: what each document says."""
    if not citations:
        return NOTHING_FOUND
    return "\n".join(f"{c['document'].removesuffix('.txt')}: “{shown(c['quote'])}” [{c['n']}]" for c in citations)


def verbatim(citation: dict, passage: dict) -> dict | None:
    """The same words as they stand in the passage, or None if they do not."""
    words = r"\s+".join(map(re.escape, citation["quote"].split()))
    found = re.search(words, passage["text"]) if words else None
    return found and cite(citation["n"], passage, found[0], found.start())


def revise(answer: str, citations: list[dict], problems: list[dict], passages: list[dict]) -> tuple[str, list[dict]]:
    """The draft without what the reviewer found: quotations become verbatim, and what cannot be repaired goes."""
    broken = {problem["n"] for problem in problems if problem["problem"] in NOT_IN_THE_CORPUS}
    repaired = [verbatim(c, passages[c["n"] - 1]) if c["n"] in broken else c for c in citations]
    kept = [citation for citation in repaired if citation]
    quotes = {citation["n"]: shown(citation["quote"]) for citation in kept}
    lost = {citation["n"] for citation in citations} - quotes.keys()

    def requoted(match: re.Match) -> str:
        quote, number = match[1], int(match[2])
        if number in quotes and shown(quote) not in quotes[number]:
            return f"“{quotes[number]}” [{number}]"
        return match[0]

    lines = []
    for line in answer.split("\n"):
        if lost & set(markers(line)):
            continue  # what rests on a citation that is not there goes with it
        line = QUOTED.sub(requoted, line)
        for number in set(markers(line)) - quotes.keys():
            line = re.sub(rf"\s*(?<!\w)\[{number}\]", "", line)
        lines.append(line)
    answer = "\n".join(lines).strip()
    used = set(markers(answer))
    if not used:
        return listing(kept), kept
    return answer, [citation for citation in kept if citation["n"] in used]


def write(question: str, passages: list[dict], review) -> bytes:
    """The finished answer; `review(draft)` gives the reviewer's verdict."""
    passages = distinct(question, passages)
    answer, citations = draft(question, passages)
    for round_number in range(1, ROUNDS + 1):
        verdict = review({"answer": answer, "citations": citations})
        if verdict["approved"]:
            final = {"question": question, "answer": answer, "citations": citations, "rounds": round_number}
            return (json.dumps(final, ensure_ascii=False, indent=2) + "\n").encode()
        answer, citations = revise(answer, citations, verdict["problems"], passages)
    reasons = "; ".join(problem["message"] for problem in verdict["problems"])
    raise Refused(f"the reviewer refused the answer {ROUNDS} times, at last because {reasons}")


def handle(task: Task) -> bytes:
    return write(*task.json("question", "passages"), lambda order: json.loads(send(task, "reviewer", order)))


if __name__ == "__main__":
    serve(handle)
