"""Arms against controls over the same seeds: differences, a correction for their number, and what may be said of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Literal

from pydantic import Field

from composer.errors import InputError
from composer.spec import Spec
from composer.trial.correction import holm
from composer.trial.paired import LEVEL, Paired, paired
from composer.trial.power import detectable, pairs_needed

Better = Literal["higher", "lower"]


class Comparison(Spec):
    """One arm against one control.

    ``p_holm`` is corrected for all comparisons of the trial. ``detectable`` is the difference that these seeds would have found
    in four cases of five, and ``more_seeds`` how many more one of ``worth`` takes (None: more than 10,000, or not known), both
    at the level that the number of comparisons leaves.
    """

    arm: str
    control: str
    found: Paired
    p_holm: float | None
    better: Better
    worth: float
    detectable: float = Field(ge=0)
    more_seeds: int | None
    outcome: Literal["better", "worse", "not distinguishable"]

    def said(self, measure: str) -> str:
        """Return the verdict in words.

        Examples
        --------
        >>> runs = {"new": [0.61, 0.65, 0.63], "old": [0.6, 0.66, 0.61]}
        >>> [found] = compare(runs, controls=("old",), better="higher", worth=0.01)
        >>> print(found.said("exact match"))  # doctest: +NORMALIZE_WHITESPACE
        new and old are not distinguishable in exact match: +0.007 (95 % interval -0.031 to +0.045, corrected p 0.53), better
        in 2 of 3 seeds. These would have found a difference of 0.050; 18 more seeds would resolve one of 0.01.
        """
        n, better_in = self.found.n, self.found.larger_in
        if self.better == "lower":
            better_in = n - better_in
        p = "unknown" if self.p_holm is None else f"{self.p_holm:.2g}"
        found = f"{self.found}"[:-1] + f", corrected p {p}), better in {better_in} of {n} seeds"
        if self.outcome != "not distinguishable":
            return f"{self.arm} is {self.outcome} than {self.control} in {measure}: {found}."
        return f"{self.arm} and {self.control} are not distinguishable in {measure}: {found}. {self._to_come()}"

    def _to_come(self) -> str:
        if not self.found.sd:
            return "All seeds differ by the same amount, so that what chance does cannot be told; more seeds may show it."
        would = f"These would have found a difference of {self.detectable:.3f}"
        if self.more_seeds is None:
            return f"{would}; one of {self.worth:g} is out of reach."
        if not self.more_seeds:
            return f"{would}, which is within the {self.worth:g} that is worth knowing."
        return f"{would}; {self.more_seeds:,} more seed{'s' * (self.more_seeds > 1)} would resolve one of {self.worth:g}."


def compare(
    values: Mapping[str, Sequence[float]], *, controls: Sequence[str], better: Better, worth: float
) -> tuple[Comparison, ...]:
    """Return every arm against every control, with the arms in the order of the values.

    An outcome is ``better`` or ``worse`` where the p value, corrected for the number of comparisons, is below 0.05.

    Parameters
    ----------
    values
        The measure of every arm and control, seed by seed in the same order.
    controls
        Which of them are controls.
    better
        Whether more or less of the measure is better.
    worth
        The smallest difference that is worth knowing, stated beforehand.

    Raises
    ------
    InputError
        Where there is nothing to compare, or an arm lacks a seed.
    """
    arms = [name for name in values if name not in controls]
    pairs = list(product(arms, controls))
    if not pairs or not set(controls) <= values.keys():
        raise InputError("nothing to compare", where="arms", expected="an arm and a control", got=", ".join(values))
    found = [paired(values[arm], values[control], n_comparisons=len(pairs)) for arm, control in pairs]
    corrected = holm([each.p for each in found])
    return tuple(
        _comparison(arm, control, each, p=p, better=better, worth=worth, alpha=(1 - LEVEL) / len(pairs))
        for (arm, control), each, p in zip(pairs, found, corrected, strict=True)
    )


def _comparison(
    arm: str, control: str, found: Paired, *, p: float | None, better: Better, worth: float, alpha: float
) -> Comparison:
    needed = pairs_needed(found.sd, worth, alpha=alpha) if found.sd else None
    ahead = (found.difference > 0) == (better == "higher")
    told = p is not None and p < 1 - LEVEL
    return Comparison(
        arm=arm, control=control, found=found, p_holm=p, better=better, worth=worth,
        detectable=detectable(found.sd, found.n, alpha=alpha), more_seeds=None if needed is None else max(0, needed - found.n),
        outcome=("better" if ahead else "worse") if told else "not distinguishable",
    )  # fmt: skip
