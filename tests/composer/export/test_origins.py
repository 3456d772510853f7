"""The parts of a card that say where rows come from: counts and names, escaped, and never a text."""

from __future__ import annotations

import yaml

from composer.export import origins

EVIL = 'x|y <script>alert("1")</script> [a](http://b)'
POOL = {
    "dedup": {
        "method": "near", "keep": ["a", "b|c"],
        "sources": {"rows": {"rows": 11, "kept": 8, "dropped": {"near_duplicate": 3}, "copies_of": {"a": 3}, "taken_back": 1}},
    },
    "decontamination": {
        "mmlu": {"texts": 100, "ngrams": 900, "sources": {EVIL: {"rows": 2, "examples": [{"row": 0, "text": "SECRET"}]}}}
    },
}  # fmt: skip


def test_copies_and_evaluation_texts_are_told_source_by_source() -> None:
    text = origins.cleaning(POOL)
    assert "found by `near`; which copy stays: a, b\\|c." in text
    assert "| rows | 11 | 8 | 3 | a 3 | 1 |" in text
    assert "| mmlu | 100 | 900 | x\\|y &lt;script&gt;" in text
    assert "SECRET" not in text
    assert "<script" not in text


def test_where_none_was_looked_for_that_is_told_and_what_is_not_known_is_not() -> None:
    assert "No evaluation set was looked for." in origins.cleaning({**POOL, "decontamination": {}})
    assert origins.cleaning({}) == ""


def test_what_stands_between_licences_is_told_and_only_then() -> None:
    assert "What stands against" not in origins.licences({"MIT": 3, "CC-BY-4.0": 1})
    text = origins.licences({"MIT": 3, "CC-BY-NC-4.0": 2, EVIL: 1})
    assert "| CC-BY-NC-4.0 | non-commercial rows bind the whole mix, whose other rows are free of that | 2 |" in text
    assert "no licence that is known" in text
    assert "<script" not in text


def test_the_lock_reads_back() -> None:
    lock = {"sources": {EVIL: "a" * 64}, "artifacts": {"composition/0123456789abcdef": {"version": 3}}}
    assert yaml.safe_load(origins.locked(lock).split("```yaml\n")[1].split("```")[0]) == lock
