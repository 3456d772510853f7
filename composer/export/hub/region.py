"""The card in a repository: our part between two marks is made anew at every push, what people write around it stays.

Of the front matter we set the fields that follow from the data, add to the lists of tags and tasks, and leave all others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from composer.errors import InputError

BEGIN = "<!-- begin sft-composer: made anew at every push; what is written above or below stays -->"
END = "<!-- end sft-composer -->"
_MARKS = re.compile(r"<!-- begin sft-composer\b.*?-->|<!-- end sft-composer -->", re.DOTALL)
_FRONT = re.compile(r"\A\ufeff?\s*---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)

THEIRS = ("language", "pretty_name")
"""Fields that we set once; later they are what people made of them."""

JOINED = ("tags", "task_categories")
"""Lists to which we add."""

FOLLOWING = {"license": ("license_name", "license_link"), "configs": ("dataset_info",)}
"""Fields that go where we set another to something new: they tell of what was there before."""


def merged(ours: str, theirs: str | None) -> str:
    """Return our card with what people wrote on the one that is there.

    A card without marks is kept whole, and our part comes below it.

    Raises
    ------
    InputError
        Where the card there cannot be read: broken YAML, or marks that are not one pair.

    Examples
    --------
    >>> first = merged("---\\nlicense: mit\\n---\\n\\n# Mix\\n", None)
    >>> again = merged("---\\nlicense: mit\\n---\\n\\n# New mix\\n", first + "\\nBy hand.\\n")
    >>> "# New mix" in again, "# Mix" in again, again.endswith("By hand.\\n")
    (True, False, True)
    """
    front, body = split(ours)
    region = f"{BEGIN}\n\n{_harmless(body).strip()}\n\n{END}"
    if theirs is None:
        return _whole(front, region + "\n")
    before, written = split(theirs, where="README.md of the repository")
    written = written.replace("\r\n", "\n")
    return _whole(_fronts(front, before), _placed(region, written))


def split(card: str, *, where: str = "the card") -> tuple[dict[str, Any], str]:
    """Return a card's front matter and its body.

    Raises
    ------
    InputError
        Where the front matter is no YAML mapping.
    """
    found = _FRONT.match(card)
    if not found:
        return {}, card
    try:
        front = yaml.safe_load(found[1]) or {}
    except yaml.YAMLError as error:
        told = str(getattr(error, "problem", None) or "it cannot be parsed")
        raise InputError(f"a broken front matter: {told}", where=where, hint="mend it on the Hub and push again") from None
    if not isinstance(front, dict):
        got = type(front).__name__
        raise InputError("no front matter", where=where, expected="fields", got=got, hint="mend it on the Hub and push again")
    return front, card[found.end() :]


def _fronts(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    stale = {each for field, others in FOLLOWING.items() if field in ours for each in others}
    if ours.get("license") == "other":
        stale.discard("license_link")  # where the text of a licence lies that has no name of its own
    kept = {field: value for field, value in theirs.items() if field not in stale}
    out = kept | {field: value for field, value in ours.items() if field not in THEIRS or not kept.get(field)}
    for field in JOINED:
        have = theirs.get(field)
        if field in ours and have:
            out[field] = list(dict.fromkeys([*([have] if isinstance(have, str) else have), *ours[field]]))
    return out


def _placed(region: str, written: str) -> str:
    marks = list(_MARKS.finditer(written))
    if not marks:
        return f"{written.strip()}\n\n{region}\n" if written.strip() else region + "\n"
    if [mark[0] == END for mark in marks] != [False, True]:
        expected = "one mark '<!-- begin sft-composer ... -->' and one '<!-- end sft-composer -->' below it"
        hint = "mend them on the Hub, or remove both and what stands between"
        raise InputError("marks that are not one pair", where="README.md of the repository", expected=expected, hint=hint)
    return written[: marks[0].start()] + region + written[marks[1].end() :]


def _whole(front: Mapping[str, Any], body: str) -> str:
    told = yaml.safe_dump(dict(front), sort_keys=False, allow_unicode=True, width=120)
    return f"---\n{told}---\n\n{body.lstrip()}"


def _harmless(body: str) -> str:
    """Return the body without anything that reads as one of our marks."""
    return _MARKS.sub(lambda mark: mark[0].replace("<!--", "<! --"), body)
