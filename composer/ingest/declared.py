"""The licence that somebody declared for a folder of data: in its card's front matter, or by the text of a LICENSE file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

CARDS = ("README.md", "readme.md", "dataset_card.md")
TEXTS = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "LICENCE.md", "COPYING")
_MOST = 1_000  # characters of a licence that are looked at: its title

_TITLES: tuple[tuple[str, str], ...] = (  # the narrower title before the one that it contains
    (r"attribution-noncommercial-sharealike (\d\.\d)", r"CC-BY-NC-SA-\1"),
    (r"attribution-noncommercial-noderivatives (\d\.\d)", r"CC-BY-NC-ND-\1"),
    (r"attribution-noncommercial (\d\.\d)", r"CC-BY-NC-\1"),
    (r"attribution-sharealike (\d\.\d)", r"CC-BY-SA-\1"),
    (r"attribution-noderivatives (\d\.\d)", r"CC-BY-ND-\1"),
    (r"attribution (\d\.\d)", r"CC-BY-\1"),
    (r"cc0 1\.0", "CC0-1.0"),
    (r"mit license", "MIT"),
    (r"apache license", "Apache-2.0"),
    (r"bsd 3-clause", "BSD-3-Clause"),
    (r"bsd 2-clause", "BSD-2-Clause"),
    (r"open data commons attribution", "ODC-By-1.0"),
    (r"open database license", "ODbL-1.0"),
    (r"gnu general public license version (\d)", r"GPL-\1.0"),
)


def declared(folders: Iterable[Path]) -> tuple[str, str] | None:
    """Return the licence that the first of some folders declares and the file that says so, or None.

    A text is known by its title alone.
    """
    for folder in folders:
        for name in CARDS:
            if (folder / name).is_file() and (word := license_of_card(_begin(folder / name, 20 * _MOST))):
                return word, str(folder / name)
        for name in TEXTS:
            if (folder / name).is_file() and (word := titled(_begin(folder / name, _MOST))):
                return word, str(folder / name)
    return None


def license_of_card(text: str) -> str | None:
    """Return the one licence that a card's front matter names, or None.

    Examples
    --------
    >>> card = "---" + chr(10) + "license: cc-by-4.0" + chr(10) + "---" + chr(10) + "# Court questions"
    >>> license_of_card(card)
    'cc-by-4.0'
    """
    found = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
    try:
        front: Any = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        return None
    return one_licence(front.get("license")) if isinstance(front, dict) else None


def one_licence(value: object) -> str | None:
    """Return the licence that a front matter's field names; of several, or of words that name none, nothing."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, str) and value.strip() and value not in ("other", "unknown") else None


def titled(text: str) -> str | None:
    """Return the licence whose title stands in the beginning of a text, or None.

    Examples
    --------
    >>> titled("MIT License. Copyright (c) the makers"), titled("Creative Commons Attribution-ShareAlike 4.0 International")
    ('MIT', 'CC-BY-SA-4.0')
    """
    flat = " ".join(text[:_MOST].lower().replace(",", " ").split())
    for title, word in _TITLES:
        if found := re.search(title, flat):
            return found.expand(word)
    return None


def _begin(path: Path, most: int) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(most)
