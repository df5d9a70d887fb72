"""The planner: splits a question into queries and the corpus into shares, and has the answer written.

The agent of the pool `planner`. It sends each share to the pool `searcher`, waits for all of them, and gives the best
passages to the pool `writer`, whose answer is its own.
"""

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor

import model
from agent import Refused, Task, send, serve
from retrieval import terms

TOP = 8  # passages that a share gives for a query
PASSAGES = 5  # passages that the writer gets
OF_ONE_DOCUMENT = 3

INSTRUCTIONS = (
    "Split the question into at most three short search queries for a full-text search of Unix documentation."
    " Answer with the queries alone, one on a line."
)


def plan(question: str) -> list[str]:
    """The queries: the question, and what it is made of: the model's split if there is a model, else its clauses."""
    said = model.complete(INSTRUCTIONS, question)
    if said is None:
        parts = re.split(r"[;?!]|\.\s|,?\s+and\s+", question)
    else:
        parts = [line.strip(" -*0123456789.\t") for line in said.splitlines()]
    parts = [part.strip() for part in parts if len(terms(part.encode())) >= 2]
    if said is None and len(parts) < 2:
        parts = []  # the question again
    return list(dict.fromkeys([question, *parts[:3]]))


def merge(found: list[list[list[dict]]]) -> list[dict]:
    """The best passages of all shares: the queries take turns, and no document and no text is used too often."""
    ranked = []
    for results in zip(*found):
        together = [passage for share in results for passage in share]
        ranked.append(sorted(together, key=lambda hit: (-hit["score"], hit["document"], hit["offset"]))[:TOP])
    chosen, texts, used = [], set(), {}
    for place in range(TOP):
        for hits in ranked:
            if place >= len(hits) or len(chosen) == PASSAGES:
                continue
            passage = hits[place]
            text = " ".join(passage["text"].split())
            if text not in texts and used.get(passage["document"], 0) < OF_ONE_DOCUMENT:
                texts.add(text)
                used[passage["document"]] = used.get(passage["document"], 0) + 1
                chosen.append({name: passage[name] for name in ("document", "offset", "text")})
    return chosen


def question_of(body: bytes, content_type: str) -> str:
    """The question: the input itself, or the member `question` of a JSON object."""
    try:
        value = json.loads(body)["question"] if "json" in content_type else body.decode()
    except (ValueError, KeyError, TypeError):
        raise Refused('the input must be a question in plain text, or JSON like {"question": "..."}') from None
    question = " ".join(value.split()) if isinstance(value, str) else ""
    if not 1 <= len(question) <= 1000:
        raise Refused("a question has 1 to 1000 characters")
    return question


def research(question: str, search, write) -> bytes:
    """`search(queries)` gives the results of every share, `write(draft)` the finished answer."""
    return write({"question": question, "passages": merge(search(plan(question)))})


def handle(task: Task) -> bytes:
    shares = int(os.environ.get("SHARES", "6"))

    def search(queries: list[str]) -> list:
        def one(share: int) -> list:
            order = {"queries": queries, "share": share, "shares": shares, "top": TOP}
            return json.loads(send(task, "searcher", order))["results"]

        with ThreadPoolExecutor(shares) as at_once:
            return list(at_once.map(one, range(shares)))

    def write(order: dict) -> bytes:
        return send(task, "writer", order)

    return research(question_of(task.input, task.content_type), search, write)


if __name__ == "__main__":
    serve(handle)
