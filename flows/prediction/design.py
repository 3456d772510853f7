"""Which short runs are to be made, and what is to be predicted of them; decided before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from composer.errors import InputError, SpecError, nearest
from composer.small_runs import DESIGNS, Region, lay_out
from composer.small_runs.design import Design
from composer.small_runs.validation import fewest
from composer.spec import Spec
from flows.recipe import Recipe, read_fields
from flows.trials.arms import Arm
from flows.trials.measures import measure_of
from flows.yaml_text import set_at

APART = 1_000  # from the recipe's seed to that of the short runs; a trial's seeds are the recipe's and those after it
PER_DOMAIN = 3
MEASURES = ("loss", "exact_match")
Sizes = Sequence[int]


class SmallRuns(Spec):
    """What was decided before anything ran; it bears the prediction's identity.

    ``domains`` are those that are mixed, ``floor`` and ``caps`` the least and the largest weights that they may have at the
    whole budget. ``amount`` is what a short run trains on, in the unit of the budget.
    """

    name: str
    domains: tuple[str, ...]
    runs: tuple[Arm, ...]
    seed: int
    measure: Literal["loss", "exact_match"]
    objective: str
    design: Design
    amount: int
    whole: int
    floor: float
    caps: tuple[float, ...]

    @property
    def region(self) -> Region:
        """The mixtures that may be proposed."""
        return Region(self.domains, self.floor, self.caps)


@dataclass(frozen=True)
class Designed:
    """Short runs, and the fields from which the recipe of every one is made."""

    design: SmallRuns
    fields: Mapping[str, Any]
    base_seed: int

    @property
    def recipe(self) -> Recipe:
        """The recipe of a short run, but for its law."""
        return Recipe(**self.fields)


@dataclass(frozen=True)
class Asked:
    """What was asked for, before it is known how much data there is."""

    recipe: Recipe
    fields: Mapping[str, Any]
    n: int
    share: float
    kind: Design
    measure: Literal["loss", "exact_match"]
    objective: str

    @property
    def amount(self) -> int:
        """What a short run trains on, in the unit of the budget."""
        assert self.recipe.budget.amount is not None
        return max(1, round(self.share * self.recipe.budget.amount))

    @property
    def short(self) -> dict[str, Any]:
        """The fields of a short run, but for its law; no law of them reads a probe."""
        fields = dict(self.fields)
        for key, value in {"budget.amount": self.amount, "seed": self.recipe.seed + APART, "probe": None}.items():
            fields = set_at(fields, key, value)
        return set_at(fields, "law", "uniform")

    def designed(self, sizes: Sizes | None) -> Designed:
        """Return the runs, given what every target domain can supply once, in the unit of the budget.

        Without sizes the data is taken to be enough for any mixture.
        """
        region = self._region(sizes)
        evenly = np.ones(len(region.domains))
        lying = evenly if sizes is None else np.asarray(sizes, dtype=np.float64)
        given = [region.within(evenly), region.within(lying)]
        points = lay_out(region, self.n - 2, design=self.kind, given=given, seed=self.recipe.seed + APART)
        runs = [Arm(name=law, changes={"law": law}, why="control") for law in ("uniform", "proportional")]
        runs += [Arm(name=f"run {i}", changes={"law": explicit(region.domains, w)}) for i, w in enumerate(points.tolist(), 1)]
        return Designed(self._spec(runs, region), self.short, self.recipe.seed)

    def _spec(self, runs: Sequence[Arm], region: Region) -> SmallRuns:
        assert self.recipe.budget.amount is not None
        return SmallRuns(
            name=self.recipe.name, domains=region.domains, runs=tuple(runs), seed=self.recipe.seed + APART,
            measure=self.measure, objective=self.objective, design=self.kind, amount=self.amount,
            whole=self.recipe.budget.amount, floor=region.floor, caps=region.caps,
        )  # fmt: skip

    def _region(self, sizes: Sizes | None) -> Region:
        budget, domains = self.recipe.budget, self.recipe.targets
        assert budget.amount is not None
        most = [1.0] * len(domains) if sizes is None else [budget.max_repeats * size / budget.amount for size in sizes]
        floor = float(getattr(self.recipe.law, "floor", 0.0))
        return Region(domains, floor, tuple(round(min(1.0, cap), 6) for cap in most))


def explicit(domains: Sequence[str], weights: Sequence[float]) -> dict[str, Any]:
    """Return the law that states these weights; a domain of none is left out.

    Examples
    --------
    >>> explicit(("law", "code", "general"), (0.25, 0.75, 0.0))
    {'name': 'explicit', 'weights': {'law': 0.25, 'code': 0.75}}
    """
    return {"name": "explicit", "weights": {d: round(w, 4) for d, w in zip(domains, weights, strict=True) if w > 0}}


def asked(
    path: str | Path, overrides: Sequence[str] = (), *, runs: int | None = None, budget_share: float = 0.25,
    design: str = "d_optimal", measure: str = "loss", objective: str = "mean",
) -> Asked:  # fmt: skip
    """Return what is to be predicted of a recipe, after all checks that need no data.

    Raises
    ------
    InputError
        For too few runs, a share outside (0, 1], and words that there are not.
    SpecError
        For a recipe without training or without a budget, and where its weights are not those that it trains with.
    """
    fields = read_fields(path, overrides)
    recipe = Recipe(**fields)
    _check_recipe(recipe)
    n = PER_DOMAIN * len(recipe.targets) if runs is None else runs
    if n < (least := fewest(len(recipe.targets))):
        raise InputError("too few runs to tell a law from", where="--runs", expected=f"{least} or more", got=n)
    if not 0 < budget_share <= 1:
        raise InputError("no share of the budget", where="--budget-share", expected="above 0, at most 1", got=budget_share)
    for where, word, known in (
        ("--design", design, tuple(DESIGNS)), ("--measure", measure, MEASURES),
        ("--objective", objective, ("mean", *recipe.order)),
    ):  # fmt: skip
        if word not in known:
            raise InputError("no such word", where=where, expected=", ".join(known), got=word, hint=nearest(word, known))
    measure_of(measure)
    return Asked(recipe, fields, n, budget_share, design, measure, objective)  # type: ignore[arg-type]


def _check_recipe(recipe: Recipe) -> None:
    if recipe.train is None:
        raise SpecError("this recipe trains nothing", where="train", got="null", hint="say how to train")
    if recipe.budget.amount is None:
        hint = "without it all data is used once, whatever the weights are"
        raise SpecError("mixtures cannot differ", where="budget.amount", expected="an amount below what there is", hint=hint)
    if len(recipe.targets) < 2:
        raise SpecError("one domain has no mixture", where="domains", got=", ".join(recipe.targets), hint="give it several")
    if len(recipe.groups) > 1:
        raise SpecError("a sequence has no one mixture", where="sequence", hint="predict a recipe without a sequence")
    if recipe.train.law is not None:
        hint = "train.law=null, and let the law that moves weights be an arm of the trial"
        raise SpecError("the weights move while it trains", where="train.law", got=recipe.train.law.name, hint=hint)
