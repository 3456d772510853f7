"""The parts of a card that say where the rows come from: copies and evaluation texts, licences, the lock, and citations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from composer.export.markdown import cell, fence, table
from composer.ingest.licences import conflicts

Entry = Mapping[str, Any]
_ARXIV = re.compile(r"\b(?:arXiv:)?(\d{4}\.\d{5})\b")


def cleaning(pool: Entry) -> str:
    """Return how copies and texts of evaluation sets were found in the pool, source by source; empty where it is not known."""
    parts = []
    if told := pool.get("dedup"):
        keep = told["keep"] if isinstance(told["keep"], str) else ", ".join(told["keep"])
        head = ["source", "rows", "kept", "copies dropped", "copies of", "taken back"]
        parts.append(
            f"Copies were found by `{told['method']}`; which copy stays: {cell(keep)}. Rows are counted after what each source "
            f"dropped of its own.\n\n"
            + table(head, ([name, s["rows"], s["kept"], _sum(s["dropped"]), _counts(s["copies_of"]), s["taken_back"]]
                           for name, s in told["sources"].items()))
        )  # fmt: skip
    if told := pool.get("decontamination"):
        head = ["evaluation set", "texts", "n-grams", "source", "rows that hold some of it"]
        rows = [
            [name, each.get("texts"), each.get("ngrams"), source, found["rows"]]
            for name, each in told.items()
            for source, found in each["sources"].items()
        ]
        parts.append("Texts of evaluation sets were looked for in the rows to train on.\n\n" + table(head, rows))
    elif "dedup" in pool:
        parts.append("No evaluation set was looked for.")
    return "\n\n".join(parts)


def licences(rows: Mapping[str, int]) -> str:
    """Return how many rows have which licence, and what stands against mixing them."""
    parts = [table(["licence", "rows"], rows.items())]
    if found := conflicts(rows):
        parts.append("What stands against mixing them, as far as names of licences tell:")
        parts.append(table(["licences", "why", "rows"], ([", ".join(e["between"]), e["why"], e["rows"]] for e in found)))
    return "\n\n".join(parts)


def locked(lock: Entry) -> str:
    """Return what pins the composition: keys and versions of what it was made of, and the content of the sources."""
    told = yaml.safe_dump(dict(lock), sort_keys=False, allow_unicode=True, width=120)
    note = (
        "Keys follow from the recipe, the content of the sources and the versions of the stages: whoever gets a composition of "
        "the same key has made it from the same."
    )
    return f"{note}\n\n{fence(told, language='yaml')}"


def cited(citations: Iterable[Sequence[str]]) -> str:
    """Return the references of what the recipe uses, with links to those on arXiv.

    Examples
    --------
    >>> cited([("law", "knowledge", "VersaTune, arXiv:2411.11266, phase 1")])
    '- `law: knowledge`: VersaTune, [arXiv:2411.11266](https://arxiv.org/abs/2411.11266), phase 1'
    """
    return "\n".join(
        f"- `{field}: {word}`: " + _ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", reference)
        for field, word, reference in citations
    )


def _sum(counts: Mapping[str, int]) -> int:
    return sum(counts.values())


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in counts.items())
