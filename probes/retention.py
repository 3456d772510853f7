"""What a model still knows: loss and exact match per domain, and what training on later domains took away.

Everything is measured on held-out conversations by teacher forcing: the model reads the right answer and is asked at each token
what it would have said. ``exact`` is therefore the same event as greedy decoding being right, without generating anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import polars as pl

from composer.encode import Encoding, encode, wholes
from composer.errors import InputError, SourceError
from composer.progress import say
from composer.tables import EVALUATION
from composer.types import LossOn
from probes.engines import Session
from probes.transfer import Matrix, Transfer, backward_transfer, forward_transfer


class Summary(TypedDict):
    """One domain's measure; standard errors are those of sampling the conversations and absent where there is only one."""

    loss_nats_per_token: float
    stderr: float | None
    exact_match: float
    exact_stderr: float | None
    n: int
    n_loss_tokens: int


class Stage(TypedDict):
    """The model after one stage of training: the domains that were new in it and the measure of every domain."""

    name: str
    current: Sequence[str]
    domains: Mapping[str, Summary]


def measure(session: Session, samples: pl.DataFrame, *, max_length: int, loss_on: LossOn = "all") -> pl.DataFrame:
    """Return EVALUATION rows of SAMPLE rows, in their order.

    ``loss_nats`` is the sum of ``-log p`` over the tokens that are trained on, ``exact`` whether each of them was the most
    likely one. Rows that cannot be encoded are left out and told, with their reasons.

    Raises
    ------
    SourceError
        Where no row can be measured.
    """
    encodings = encode(session.tokenizer, wholes(samples), max_length=max_length, loss_on=loss_on)
    found = [(i, encoding) for i, encoding in enumerate(encodings) if isinstance(encoding, Encoding)]
    reasons = Counter(encoding for encoding in encodings if isinstance(encoding, str))
    told = ", ".join(f"{reason} {n}" for reason, n in sorted(reasons.items()))
    if not found:
        raise SourceError("no validation sample can be measured", expected="at least one", got=told or "no rows")
    if told:
        say(f"{len(encodings) - len(found)} of {len(encodings)} validation samples are left out: {told}")
    # A model that chooses its experts by the prompt must not see the answer before it does.
    heads = [(encoding.trained[1:].index(True) + 1) for _, encoding in found] if getattr(session, "routes", False) else None
    scores = session.score([encoding.ids for _, encoding in found], **({} if heads is None else {"heads": heads}))
    rows = []
    for (i, encoding), score in zip(found, scores, strict=True):
        trained = np.array(encoding.trained[1:])
        loss, exact = -float(score.logprob[trained].sum()), bool(score.top[trained].all())
        rows.append((samples["domain"][i], samples["sample_id"][i], loss, encoding.n_loss_tokens, exact))
    return pl.DataFrame(rows, schema=dict(EVALUATION), orient="row")


def summarise(evaluation: pl.DataFrame) -> dict[str, Summary]:
    """Return each domain's loss per token and exact match, in the order in which the domains first occur.

    The loss is the ratio ``r = sum L / sum n`` over samples with loss L and n loss tokens; its standard error is that of a
    ratio, ``sqrt(m / (m - 1) * sum (L - r n)^2) / sum n`` for m samples.

    References
    ----------
    Cochran, Sampling Techniques (1977), section 6.4.

    Examples
    --------
    >>> rows = [("law", "a", 6.0, 2, True), ("law", "b", 2.0, 2, False)]
    >>> summarise(pl.DataFrame(rows, schema=dict(EVALUATION), orient="row"))["law"]["loss_nats_per_token"]
    2.0
    """
    return {str(own["domain"][0]): _summary(own) for own in evaluation.partition_by("domain", maintain_order=True)}


def _summary(own: pl.DataFrame) -> Summary:
    loss, n_tokens = own["loss_nats"].to_numpy(), own["n_loss_tokens"].cast(pl.Float64).to_numpy()
    m, ratio, exact = own.height, loss.sum() / n_tokens.sum(), float(own["exact"].cast(pl.Float64).to_numpy().mean())
    spread = float(np.sqrt(m / (m - 1) * ((loss - ratio * n_tokens) ** 2).sum()) / n_tokens.sum()) if m > 1 else None
    return Summary(
        loss_nats_per_token=float(ratio),
        stderr=spread,
        exact_match=exact,
        exact_stderr=float(np.sqrt(exact * (1 - exact) / (m - 1))) if m > 1 else None,
        n=m,
        n_loss_tokens=int(n_tokens.sum()),
    )


def relative_gain(scores: Sequence[float], upper: Sequence[float]) -> float | None:
    """Return the mean of ``scores / upper`` over earlier tasks, in percent; 100 where there is no earlier task.

    A task whose upper score is 0 has no ratio and does not count; where none has one the gain is None.

    References
    ----------
    InsCL (2403.11435), section 4.2.

    Examples
    --------
    >>> relative_gain([40, 30], [50, 40]), relative_gain([], []), relative_gain([1], [0])
    (77.5, 100.0, None)
    """
    ratios = [score / best for score, best in zip(scores, upper, strict=True) if best > 0]
    if not scores:
        return 100.0
    return 100 * float(np.mean(ratios)) if ratios else None


def forgetting_rate(own: float, last: float) -> float | None:
    """Return ``100 (own - last) / own``: how much of the score right after a task's own stage is gone, in percent.

    References
    ----------
    InsCL (2403.11435), section 4.2.

    Examples
    --------
    >>> forgetting_rate(50, 40), forgetting_rate(0, 10)
    (20.0, None)
    """
    return 100 * (own - last) / own if own > 0 else None


def retention(stages: Sequence[Stage], *, experts: Mapping[str, Summary] | None = None) -> dict[str, Any]:
    """Return the score matrices of a sequence of stages and what they say of forgetting and transfer.

    A domain's reference is its score right after the stage it was last current in; for a domain that is never current it is the
    first stage's, so with the base model as the first stage (``current`` empty) the loss of old abilities shows as well.

    ``current`` holds the domains that were new in each stage. ``loss_nats_per_token`` and ``exact_match`` are (stages,
    domains), None where a domain was not measured. ``forgetting`` holds per domain the stage of its reference, the forgetting
    rate of exact match (percent) and the increase of loss (nats per token) from there to the last stage.

    ``relative_gain`` holds per stage the mean of exact match over upper bound (percent) of the domains that were current
    earlier and are not now, with the number of domains that have such a ratio. The upper bound is the exact match of the
    domain's single-task expert, as InsCL has it; without ``experts`` the domain's reference stands in for it, and ``upper``
    says which of the two it was; ``experts`` holds what they reach. ``mean_relative_gain`` holds its mean and (population)
    standard deviation over the stages of training, the first with its 100 among them.

    ``backward_transfer`` and ``forward_transfer`` (see :mod:`probes.transfer`) hold the mean change of exact match (a
    difference of shares), that of the loss (nats per token, where more is worse) and over how many domains they are.
    What is undefined is None: a ratio to zero, a mean over nothing, forward transfer without a base model.

    Parameters
    ----------
    stages
        The stages in the order of training.
    experts
        Per domain the measure of a model that was trained on that domain alone.

    Raises
    ------
    InputError
        Where an earlier domain that was measured has no expert.

    References
    ----------
    InsCL (2403.11435), section 4.2; Lopez-Paz and Ranzato, Gradient Episodic Memory (1706.08840), section 2.
    """
    domains = list(dict.fromkeys(domain for stage in stages for domain in stage["domains"]))
    names = [stage["name"] for stage in stages]
    loss = [[_value(stage, domain, "loss_nats_per_token") for domain in domains] for stage in stages]
    exact = [[_value(stage, domain, "exact_match") for domain in domains] for stage in stages]
    own = [_latest(stages, domain, before=len(stages)) for domain in domains]
    gains = [{"stage": name, **_gain(stages, domains, exact, k, experts=experts)} for k, name in enumerate(names)]
    new = [[domains.index(domain) for domain in stage["current"] if domain in domains] for stage in stages]
    return {
        "stages": names,
        "current": [list(stage["current"]) for stage in stages],
        "domains": domains,
        "loss_nats_per_token": loss,
        "exact_match": exact,
        "forgetting": {
            domain: {
                "since": names[own[j] or 0],
                "exact_match_rate": _of(forgetting_rate, exact[own[j] or 0][j], exact[-1][j]),
                "loss_increase_nats": _of(lambda before, after: after - before, loss[own[j] or 0][j], loss[-1][j]),
            }
            for j, domain in enumerate(domains)
        },
        "upper": "own stage" if experts is None else "expert",
        "experts": {domain: summary["exact_match"] for domain, summary in (experts or {}).items()},
        "relative_gain": gains,
        "mean_relative_gain": _mean_gain(
            [gain["percent"] for gain, stage in zip(gains, stages, strict=True) if stage["current"]]
        ),
        "backward_transfer": _transfer(backward_transfer, exact, loss, new),
        "forward_transfer": _transfer(forward_transfer, exact, loss, new),
    }


def _gain(
    stages: Sequence[Stage], domains: Sequence[str], exact: Matrix, k: int, *, experts: Mapping[str, Summary] | None
) -> dict[str, Any]:
    scores, upper, n_earlier = [], [], 0
    for j, domain in enumerate(domains):
        since = _latest(stages, domain, before=k)
        if since is None or domain in stages[k]["current"]:
            continue
        n_earlier += 1
        now, best = exact[k][j], exact[since][j] if experts is None else _expert(experts, domain)
        if now is not None and best is not None:
            scores.append(now)
            upper.append(best)
    percent = relative_gain(scores, upper) if scores or not n_earlier else None  # unmeasured is not unforgotten
    return {"percent": percent, "n_domains": sum(best > 0 for best in upper)}


def _expert(experts: Mapping[str, Summary], domain: str) -> float:
    if domain not in experts:
        hint = "measure an expert of every domain that is trained on"
        raise InputError("a domain has no expert", where="experts", expected=domain, got=", ".join(experts), hint=hint)
    return experts[domain]["exact_match"]


def _mean_gain(percents: Sequence[float | None]) -> dict[str, Any]:
    known = [percent for percent in percents if percent is not None]
    mean, spread = (float(np.mean(known)), float(np.std(known))) if known else (None, None)
    return {"percent": mean, "std_percent": spread, "n_stages": len(known)}


def _transfer(of: Callable[..., Transfer], exact: Matrix, loss: Matrix, current: Sequence[Sequence[int]]) -> dict[str, Any]:
    found, more_loss = of(exact, current), of(loss, current)
    return {"exact_match": found.mean, "loss_nats": more_loss.mean, "n_domains": found.n}


def _latest(stages: Sequence[Stage], domain: str, *, before: int) -> int | None:
    return max((k for k in range(before) if domain in stages[k]["current"]), default=None)


def _value(stage: Stage, domain: str, field: str) -> float | None:
    summary: Mapping[str, Any] = stage["domains"].get(domain, {})
    return summary.get(field)


def _of(function: Any, before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else function(before, after)
