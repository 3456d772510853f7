"""What licences ask for, as far as their names tell, and where the rows of one mix ask for what cannot be had together.

A mix is one work made of many. The rules are those of the Creative Commons and free software licences that data sets bear most;
they show where to look and are no legal advice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

PERMISSIVE = re.compile(r"^(mit|apache|bsd|isc|cc0|cc-by-\d|cc-by$|odc-by|pddl|unlicense|public|cdla-permissive|zlib)")
_NAMED = {
    "non-commercial": re.compile(r"(?:^|[-_ ])nc(?:[-_ ]|$)|non-?commercial"),
    "no derivatives": re.compile(r"(?:^|[-_ ])nd(?:[-_ ]|$)|no-?deriv"),
    "share-alike": re.compile(r"(?:^|[-_ ])sa(?:[-_ ]|$)|^a?gpl|^lgpl|share-?alike|^odbl|^cdla-sharing"),
}


def asks(licence: str) -> frozenset[str]:
    """Return what a licence asks for: non-commercial, no derivatives, share-alike; or unknown.

    Examples
    --------
    >>> sorted(asks("CC-BY-NC-SA-4.0")), asks("Apache-2.0"), sorted(asks("unknown"))
    (['non-commercial', 'share-alike'], frozenset(), ['unknown'])
    """
    name = licence.strip().lower().replace(" ", "-")
    found = frozenset(what for what, pattern in _NAMED.items() if pattern.search(name))
    return found if found or PERMISSIVE.search(name) else frozenset({"unknown"})


def conflicts(rows: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return what stands against mixing rows of these licences: ``between`` which, ``why`` and how many ``rows`` are meant.

    Examples
    --------
    >>> [each["why"] for each in conflicts({"MIT": 5, "CC-BY-SA-4.0": 2, "GPL-3.0": 1})]
    ['two share-alike licences each ask that the whole be under itself']
    """
    asked = {licence: asks(licence) for licence in sorted(rows)}
    found = []

    def tell(names: list[str], why: str) -> None:
        found.append({"between": names, "why": why, "rows": sum(rows[name] for name in names)})

    of = {what: [name for name in asked if what in asked[name]] for what in (*_NAMED, "unknown")}
    if of["non-commercial"] and len(of["non-commercial"]) < len(asked):
        tell(of["non-commercial"], "non-commercial rows bind the whole mix, whose other rows are free of that")
    if of["no derivatives"]:
        tell(of["no derivatives"], "a mix is a derivative, which these do not allow")
    if len({_family(name) for name in of["share-alike"]}) > 1:
        tell(of["share-alike"], "two share-alike licences each ask that the whole be under itself")
    barred = [name for name in of["non-commercial"] if name not in of["share-alike"]]
    if of["share-alike"] and barred:
        tell([*of["share-alike"], *barred], "share-alike asks that the whole be under itself, which non-commercial rows bar")
    if of["unknown"]:
        tell(of["unknown"], "no licence that is known, so nothing is allowed for certain")
    return found


def _family(licence: str) -> str:
    """Return a share-alike licence without its version: a later version of one licence takes rows of an earlier one."""
    return re.sub(r"-?v?\d.*$", "", licence.strip().lower())
