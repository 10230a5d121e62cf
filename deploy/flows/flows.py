"""A first flow for the deployment: replace it by your own, or name other modules in GRAFLOW_FLOWS."""

from __future__ import annotations

from typing import Any

from graflow import task
from graflow.flows import flow


@task(inject_context=True)
def count_words(context: Any, text: str) -> int:
    """How many words there are in one text."""
    context.progress(1, total=1, message=text[:40])
    return len(text.split())


@task
def total(texts: list[int]) -> int:
    """How many words there are in all of them."""
    return sum(texts)


@flow("word_count")
def word_count(texts: list[str]) -> None:
    """Count the words of texts, each on a worker."""
    count_words.map(texts, name="texts") >> total
