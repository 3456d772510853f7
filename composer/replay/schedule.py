"""A mixture, an order of domains and a replay policy into a schedule: one phase per group of domains.

The schedule is what is meant, not what is there: the shares of the new data are the law's even where a domain is too small for
its own. ``composer.compose`` is the one place where a capacity cuts, and it reports every cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from composer.apportion import apportion
from composer.errors import InputError, SpecError, nearest
from composer.replay.base import ReplayPolicy
from composer.types import Budget, Mixture, Phase, ReplayContext, Schedule, SimilarityMatrix

Group = tuple[str, ...]


def plan(
    groups: Sequence[Group],
    *,
    mixture: Mixture,
    supply: Mapping[str, int],
    earlier: Group,
    policy: ReplayPolicy,
    budget: Budget,
    similarity: SimilarityMatrix | None,
    risk: Sequence[Mapping[str, float]] | None = None,
    forgetting: Sequence[Mapping[str, float]] | None = None,
    stages: int | None = None,
) -> Schedule:
    """Return the schedule that trains on one group of domains after the other, with replay of what came before.

    In phase i the new data is ``groups[i]``, weighed by the mixture restricted to the group; the earlier domains, of which the
    policy says how much comes back, are ``earlier`` and those of the groups before i that the mixture gives any weight. The
    phase's amount is the new data and the replay together.

    Parameters
    ----------
    groups
        The domains of each phase, in the order of training; one group is a plain mixture.
    mixture
        The weights of all domains of the groups.
    supply
        How much each domain can give once, in the budget's unit.
    earlier
        Domains that were trained on before and are only replayed.
    policy
        How much of the earlier domains comes back.
    budget
        How much new data, in all phases together: shared among the groups in proportion to their supply. Without an amount,
        each group's supply.
    similarity
        Distances between domains, for policies that need them.
    risk, forgetting
        For every phase what a policy may need to know of its earlier domains (:class:`composer.types.ReplayContext`).
    stages
        How many of the phases to plan, the first ones; all when absent. The others change nothing in these.

    Raises
    ------
    InputError
        For groups that overlap, are empty or weigh nothing, for a domain without known supply, and for a phase without data.
    """
    _check(groups, mixture=mixture, supply=supply, earlier=earlier, budget=budget)
    phases = []
    amounts = _new_amounts(groups, mixture, supply, budget)
    for stage, (group, new) in enumerate(list(zip(groups, amounts, strict=True))[:stages]):
        learned = tuple(domain for domain in chain.from_iterable(groups[:stage]) if mixture.share(domain) > 0)
        context = ReplayContext(
            stage=stage,
            earlier=(*earlier, *learned),
            current=group,
            weights=tuple(_restricted(mixture, group).tolist()),
            available=tuple(supply[domain] for domain in (*earlier, *learned)),
            similarity=similarity,
            risk=risk[stage] if risk else None,
            forgetting=forgetting[stage] if forgetting else None,
        )
        new_amount = int(new) + policy.padding(context)
        phases.append(_phase(context, new=new_amount, replayed=policy.amounts(context), mixture=mixture))
    return Schedule(phases=tuple(phases))


def _new_amounts(groups: Sequence[Group], mixture: Mixture, supply: Mapping[str, int], budget: Budget) -> NDArray[np.int64]:
    supplies = [sum(supply[domain] for domain in group if mixture.share(domain) > 0) for group in groups]
    if empty := ["+".join(group) for group, there in zip(groups, supplies, strict=True) if not there]:
        hint = "check that their sources gave rows, or leave the domains out"
        raise InputError("a group of domains has no data", where="domains", got=", ".join(empty), hint=hint)
    amounts = np.asarray(supplies) if budget.amount is None else apportion(supplies, budget.amount)
    if idle := ["+".join(group) for group, amount in zip(groups, amounts, strict=True) if not amount]:
        raise InputError("the budget leaves a group nothing", where="budget.amount", got=", ".join(idle), hint="raise it")
    return amounts


def _restricted(mixture: Mixture, group: Group) -> NDArray[np.float64]:
    share = np.array([mixture.share(domain) for domain in group])
    return np.asarray(share / share.sum(), dtype=np.float64)


def _phase(context: ReplayContext, *, new: int, replayed: NDArray[np.int64], mixture: Mixture) -> Phase:
    total = new + int(replayed.sum())
    back = [(domain, int(amount)) for domain, amount in zip(context.earlier, replayed, strict=True) if amount > 0]
    amounts = [*(weight * new for weight in context.weights), *(amount for _, amount in back)]
    weights = np.array(amounts) / total
    return Phase(
        name="+".join(context.current),
        amount=total,
        mixture=Mixture(
            domains=(*context.current, *(domain for domain, _ in back)),
            weights=tuple(weights.tolist()),
            unit=mixture.unit,
            law=mixture.law,
        ),
        current=context.current,
    )


def _check(groups: Sequence[Group], *, mixture: Mixture, supply: Mapping[str, int], earlier: Group, budget: Budget) -> None:
    every = [*earlier, *chain.from_iterable(groups)]
    if not groups or not all(groups):
        raise InputError("a schedule needs at least one domain in every group", where="domains", got=[list(g) for g in groups])
    if twice := sorted({domain for domain in every if every.count(domain) > 1}):
        raise InputError("a domain has two places in the sequence", where="domains", got=", ".join(twice))
    if unknown := [domain for domain in chain.from_iterable(groups) if domain not in mixture.domains]:
        raise InputError(
            "the mixture has no such domain", where="domains", got=unknown[0], hint=nearest(unknown[0], mixture.domains)
        )
    if missing := [domain for domain in every if domain not in supply]:
        raise InputError("the supply of a domain is not known", where="supply", got=", ".join(missing))
    if idle := ["+".join(group) for group in groups if not any(mixture.share(domain) > 0 for domain in group)]:
        raise InputError("the mixture gives a group no weight", where="law", got=", ".join(idle))
    if mixture.unit != budget.unit:
        raise SpecError(
            "the mixture and the budget differ in unit", where="budget.unit", expected=mixture.unit, got=budget.unit
        )
