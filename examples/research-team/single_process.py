#!/usr/bin/env python3
"""The whole team as one function call: no Skein, no HTTP, no shares. What the team answers must equal this, byte for byte.

    single_process.py [--corpus FOLDER] QUESTION
"""

import argparse
import os
import sys
from pathlib import Path

import planner
import reviewer
import writer
from retrieval import read_corpus, search

XDG_CACHE = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
CACHE = Path(os.environ.get("SKEIN_CACHE") or Path(XDG_CACHE, "skein")) / "examples"


def answer(documents: dict[str, bytes], question: str) -> bytes:
    question = planner.question_of(question.encode(), "text/plain")
    return planner.research(
        question,
        # One share that is the whole corpus: the best of all shares must be the best of the corpus.
        lambda queries: [search(documents, queries, 0, 1, planner.TOP)],
        lambda order: writer.write(
            order["question"],
            order["passages"],
            lambda draft: reviewer.verdict(reviewer.review(documents, draft["answer"], draft["citations"])),
        ),
    )


def main() -> None:
    options = argparse.ArgumentParser(description="Answers a question as the team does, in one process.")
    options.add_argument("--corpus", default=os.environ.get("CORPUS", CACHE / "corpus"))
    options.add_argument("question")
    given = options.parse_args()
    sys.stdout.buffer.write(answer(read_corpus(given.corpus), given.question))


if __name__ == "__main__":
    main()
