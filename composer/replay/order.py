"""In which order the groups of a sequence are trained: as given, the easy ones first, the hard ones first, or by chance.

How easy a task is, InsCL reads off its upper bound: the score of a model that was trained on that task alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from composer.errors import SpecError
from composer.spec import rng

Group = tuple[str, ...]
Order = Literal["given", "curriculum", "reverse", "random"]


def ordered(groups: Sequence[Group], *, order: Order, upper: Mapping[str, float] | None, seed: int) -> tuple[Group, ...]:
    """Return the groups in the order in which they are trained.

    ``curriculum`` takes the highest upper bound first, a group's being the mean of its domains'; groups of equal bounds stay in
    the given order. ``reverse`` is the curriculum from its end to its beginning, ``random`` follows from the seed alone, and
    ``given`` changes nothing.

    Parameters
    ----------
    groups
        The domains of each phase.
    upper
        Per domain the score of its single-task expert, of any scale where more is better; the curriculum and its reverse need
        them.

    Raises
    ------
    SpecError
        Where the order needs upper bounds and a domain has none, or one that is not finite.

    References
    ----------
    InsCL (2403.11435), appendix on training orders.

    Examples
    --------
    >>> groups, upper = (("law",), ("code", "chat"), ("science",)), {"law": 0.2, "code": 0.9, "chat": 0.5, "science": 0.4}
    >>> ordered(groups, order="curriculum", upper=upper, seed=0)
    (('code', 'chat'), ('science',), ('law',))
    >>> ordered(groups, order="reverse", upper=upper, seed=0)
    (('law',), ('science',), ('code', 'chat'))
    """
    if order == "given":
        return tuple(groups)
    if order == "random":
        return tuple(groups[i] for i in rng(seed, "order").permutation(len(groups)))
    bounds = _bounds(groups, order=order, upper=upper or {})
    easy_first = tuple(groups[i] for i in sorted(range(len(groups)), key=lambda i: -bounds[i]))
    return easy_first if order == "curriculum" else easy_first[::-1]


def _bounds(groups: Sequence[Group], *, order: Order, upper: Mapping[str, float]) -> list[float]:
    if missing := [domain for group in groups for domain in group if domain not in upper]:
        measured = "`evaluate: {experts: true}` measures them, `sft-composer show retention` prints them"
        hint = f"set upper_bounds in the recipe; {measured}"
        raise SpecError(
            f"the order {order} needs every domain's upper bound", where="upper_bounds",
            expected="the score of a model trained on the domain alone", got=f"none for {', '.join(missing)}", hint=hint,
        )  # fmt: skip
    if broken := [domain for group in groups for domain in group if not math.isfinite(upper[domain])]:
        raise SpecError(
            "an upper bound is not finite", where="upper_bounds", expected="a score", got=f"{broken[0]} {upper[broken[0]]}"
        )
    return [math.fsum(upper[domain] for domain in group) / len(group) for group in groups]
