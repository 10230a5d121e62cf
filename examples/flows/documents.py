"""The steps of `document_analysis`: what is measured about a document, and about all of them.

Workers import this module to run its tasks: `--graflow-import examples.flows.documents`.
"""

from __future__ import annotations

import ast
import hashlib
import math
import re
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path
from typing import Any

from graflow import task

KINDS = {".md": "markdown", ".py": "python", ".rst": "reStructuredText", ".txt": "text"}
SHINGLE = 5  # words in a row that are compared between documents
SKETCH = 48  # of their hashes that are kept for each document
NEAR = 0.6  # resemblance from which two documents count as near duplicates
TERMS = 40  # most frequent words of a document that are kept

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_SENTENCE = re.compile(r"[.!?:]+(?=\s|$)|\n\s*\n|\|\n")  # rows of tables count as well
_VOWELS = re.compile(r"[aeiouyäöüáéíóúàèìòù]+")
_LINK = re.compile(r"https?://[^\s<>\"'`)\]}]+")
_COMMENT = re.compile(r"^\s*#+ ?(.*)$", re.MULTILINE)
_MARKDOWN_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_RST_HEADING = re.compile(r"^(\S.*)\n([=\-~^\"'`#*+.:_])\2{2,}$", re.MULTILINE)
_NUMBERED_HEADING = re.compile(r"^\d+(?:\.\d+)*\.? +([A-Z].*)$", re.MULTILINE)
_COMMON = frozenset(
    re.findall(
        r"\w+",
        """
        a about after all also an and any are as at be been before but by can cannot could do does each for from get has
        have if in into is it its may more most must new no not of on one only or other out over see should so some such
        than that the their them then there these they this to up use used using was were what when where which while
        will with without would you your none true false self return returns value values list name object set
        """,
    )
)


@task
def discover(paths: list[str]) -> dict[str, Any]:
    """How many documents of which kind there are, and how large they are together; one that is missing fails it."""
    sizes = {path: Path(path).stat().st_size for path in paths}
    kinds = Counter(kind_of(path) for path in paths)
    return {"documents": len(paths), "bytes": sum(sizes.values()), "kinds": dict(kinds.most_common())}


@task
def analyse(path: str) -> dict[str, Any]:
    """Words, readability, headings and links of one document, with what it takes to compare it with others."""
    data = Path(path).read_bytes()
    source = data.decode("utf-8", "replace")
    kind = kind_of(path)
    prose, headings = read(source, kind)
    words = [word.lower() for word in _WORD.findall(prose)]
    sentences = max(1, len(_SENTENCE.findall(prose)))
    return {
        "path": path,
        "kind": kind,
        "digest": hashlib.sha256(data).hexdigest(),
        "words": len(words),
        "sentences": sentences,
        "readability": readability(words, sentences),
        "headings": len(headings),
        "first_heading": headings[0] if headings else None,
        "links": sorted(set(_LINK.findall(source))),
        "terms": dict(Counter(word for word in words if len(word) > 2 and word not in _COMMON).most_common(TERMS)),
        "sketch": sketch(words),
    }


@task
def duplicates(pages: list[dict[str, Any]]) -> dict[str, Any]:
    """Documents that are the same byte for byte, and pairs that share most of their text."""
    by_digest: defaultdict[str, list[str]] = defaultdict(list)
    sharing: defaultdict[int, list[int]] = defaultdict(list)
    for number, page in enumerate(pages):
        by_digest[page["digest"]].append(page["path"])
        for shingle in page["sketch"]:
            sharing[shingle].append(number)
    candidates = {pair for numbers in sharing.values() for pair in combinations(numbers, 2)}
    near = []
    for first, second in sorted(candidates):
        alike = resemblance(pages[first]["sketch"], pages[second]["sketch"])
        if alike >= NEAR and pages[first]["digest"] != pages[second]["digest"]:
            near.append({"paths": [pages[first]["path"], pages[second]["path"]], "resemblance": round(alike, 2)})
    same = [paths for paths in by_digest.values() if len(paths) > 1]
    return {"same": sorted(same), "near": sorted(near, key=lambda pair: -pair["resemblance"])}


@task
def keywords(pages: list[dict[str, Any]], top: int = 10) -> list[dict[str, Any]]:
    """The words that tell these documents from each other: frequent in few of them (tf-idf)."""
    found_in: Counter[str] = Counter()
    for page in pages:
        found_in.update(page["terms"].keys())
    best: dict[str, tuple[float, str]] = {}
    for page in pages:
        for term, count in page["terms"].items():
            weight = count / max(1, page["words"]) * math.log(len(pages) / found_in[term] + 1)
            if found_in[term] > 1 or len(pages) == 1:
                best[term] = max(best.get(term, (0.0, "")), (weight, page["path"]))
    ranked = sorted(best.items(), key=lambda item: (-item[1][0], item[0]))[:top]
    return [
        {"word": term, "weight": round(weight, 4), "documents": found_in[term], "most_in": path}
        for term, (weight, path) in ranked
    ]


@task
def report(
    pages: list[dict[str, Any]], duplicates: dict[str, Any], keywords: list[dict[str, Any]], top: int = 10
) -> dict[str, Any]:
    """Everything in one: totals by kind, the longest, hardest and easiest documents, links, duplicates, keywords."""
    by_kind: dict[str, Counter[str]] = {}
    for page in pages:
        totals = by_kind.setdefault(page["kind"], Counter())
        totals.update(documents=1, words=page["words"], headings=page["headings"], links=len(page["links"]))
    long_enough = [page for page in pages if page["words"] >= 100]
    by_ease = sorted(long_enough, key=lambda page: (page["readability"], page["path"]))
    links = Counter(link for page in pages for link in page["links"])
    return {
        "documents": len(pages),
        "words": sum(page["words"] for page in pages),
        "kinds": {kind: dict(totals) for kind, totals in sorted(by_kind.items())},
        "longest": [_of(page, "words") for page in sorted(pages, key=lambda page: -page["words"])[:top]],
        "hardest": [_of(page, "readability") for page in by_ease[:top]],
        "easiest": [_of(page, "readability") for page in by_ease[::-1][:top]],
        "links": len(links),
        "most_linked": [list(each) for each in links.most_common(top)],
        "duplicates": duplicates,
        "keywords": keywords,
    }


# -- one document ------------------------------------------------------------------------------------------------------


def documents_under(paths: list[str]) -> list[str]:
    """The documents that are meant: files as they are, and of folders what lies under them, each once, in order.

    Raises:
        ValueError: For what is neither a folder nor a document.
    """
    found: dict[str, None] = {}
    for path in paths:
        if Path(path).is_dir():
            below = sorted(map(str, Path(path).rglob("*")))
            found |= dict.fromkeys(file for file in below if kind_of(file) and not Path(file).is_dir())
        elif kind_of(path):
            found[path] = None
        else:
            raise ValueError(f"{path} is neither a folder nor a document ({', '.join(KINDS)})")
    return list(found)


def kind_of(path: str) -> str:
    """The kind of a document by its suffix; empty for what is none."""
    return KINDS.get(Path(path).suffix.lower(), "")


def read(source: str, kind: str) -> tuple[str, list[str]]:
    """The prose of a document, and its headings; of a program its docstrings and comments, classes and functions."""
    if kind == "python":
        return _read_program(source)
    pattern = {"markdown": _MARKDOWN_HEADING, "reStructuredText": _RST_HEADING}.get(kind, _NUMBERED_HEADING)
    return source, [match.group(1) for match in pattern.finditer(source)]


def _read_program(source: str) -> tuple[str, list[str]]:
    comments = _COMMENT.findall(source)
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # valid in no Python, or in another one
        return "\n".join(comments), []
    named = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.Module, *named))]
    docstrings = [ast.get_docstring(node) or "" for node in nodes]
    return "\n\n".join([*docstrings, *comments]), [node.name for node in nodes if isinstance(node, named)]


def readability(words: list[str], sentences: int) -> float | None:
    """Flesch reading ease: 100 is very easy, below 30 very hard (Flesch 1948); None for no words."""
    if not words:
        return None
    syllables = sum(
        max(1, len(_VOWELS.findall(word)) - (word.endswith("e") and not word.endswith("le"))) for word in words
    )
    return round(206.835 - 1.015 * len(words) / sentences - 84.6 * syllables / len(words), 1)


def sketch(words: list[str]) -> list[int]:
    """The smallest hashes of all runs of words: texts that share many of these share much of their text."""
    shingles = {" ".join(words[start : start + SHINGLE]) for start in range(len(words) - SHINGLE + 1)}
    hashes = (int.from_bytes(hashlib.blake2b(each.encode(), digest_size=6).digest(), "big") for each in shingles)
    return sorted(hashes)[:SKETCH]


def resemblance(first: list[int], second: list[int]) -> float:
    """How much two sketches share, from 0 to 1 (Broder 1997)."""
    smallest = sorted({*first, *second})[:SKETCH]
    return len({*first} & {*second} & {*smallest}) / max(1, len(smallest))


def _of(page: dict[str, Any], figure: str) -> dict[str, Any]:
    return {"path": page["path"], figure: page[figure]}
