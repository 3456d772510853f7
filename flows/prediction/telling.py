"""What short runs say, in words: whether their law predicts anything, what it proposes, and what stands against it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flows.prediction.design import explicit
from flows.trials.arms import Arm
from flows.trials.measures import measure_of
from flows.trials.running import UNEQUAL

SAID = {"loss": "nats per token", "exact_match": "of exact match"}
NOTE = (
    "The law is one of short runs of one seed, and of the mixtures that were run. That the best mixture of a short run is the "
    "best of a long one is supposed, and not shown: the proposal is one more arm, to be tried beside its controls."
)


def told(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the verdict on a law, its proposal in words and as an arm, and warnings."""
    said: dict[str, Any] = {"verdict": verdict(found), "warnings": _warnings(found), "note": NOTE}
    if (proposal := found["proposal"]) is None:
        return {**said, "proposed": None, "arm": None, "paste": None}
    domains = found["design"]["domains"]
    law = explicit(domains, [proposal["weights"][domain] for domain in domains])
    arm = Arm(name="predicted", changes={"law": law})
    return {**said, "proposed": proposed(found), "arm": arm.model_dump(mode="json"), "paste": paste(arm)}


def verdict(found: Mapping[str, Any]) -> str:
    """Say whether the law predicts better than the mean of the runs."""
    chosen, unit = found["chosen"], SAID[found["design"]["measure"]]
    errs = f"it errs by {chosen['error']:.4f} {unit}, the mean by {chosen['error_of_mean']:.4f} (R2 {chosen['r2']:.2f}"
    if found["proposal"] is not None:
        return f"The law predicts runs that it has not seen better than the mean of the others: {errs}, p {chosen['p']:.2g})."
    if chosen["r2"] > 0:
        known = f"It is not known that the law predicts better than the mean of the runs: {errs}), but luck alone would do as "
        known += f"well with a probability of about {chosen['p']:.1g}."
    else:
        known = f"The law predicts runs that it has not seen no better than the mean of the others: {errs})."
    none = "So no mixture is proposed; the best of these runs would be no prediction."
    return f"{known} {none} More runs, or a larger budget share, may tell more."


def proposed(found: Mapping[str, Any]) -> str:
    """Say what is predicted of the proposed mixture, beside the controls, and how far it lies from the runs."""
    proposal, design = found["proposal"], found["design"]
    measure, predicted = measure_of(design["measure"]), proposal["predicted"]
    ends = proposal["interval"]
    of = f" ({100 * proposal['level']:.0f} % interval {ends[0]:.3f} to {ends[1]:.3f})" if ends else ""
    controls = ", ".join(f"{name} {value:.3f}" for name, value in proposal["controls"].items())
    signed = 1 if measure.better == "lower" else -1
    gain = min(signed * (value - predicted) for value in proposal["controls"].values())
    error = found["chosen"]["error"]
    larger = f"is {'larger' if gain > error else 'not larger'} than the error of a prediction"
    place = "inside the runs" if proposal["outside"] < 1e-4 else f"outside the runs by {proposal['outside']:.3f} of the weight"
    return (
        f"Proposed for a run of {design['amount']:,}: predicted {predicted:.3f}{of}; {controls}. The gain of {gain:.3f} on the "
        f"better control {larger}. It lies {place}, with a leverage of {proposal['leverage']:.2f} (the runs: up to "
        f"{proposal['largest_leverage']:.2f})."
    )


def paste(arm: Arm) -> str:
    """Return an arm as ``sft-composer trial`` takes it, quoted for a shell.

    Examples
    --------
    >>> print(paste(Arm(name="predicted", changes={"law": {"name": "explicit", "weights": {"law": 0.25, "code": 0.75}}})))
    --arm "predicted 'law={name: explicit, weights: {law: 0.25, code: 0.75}}'"
    """
    return f'''--arm "{arm.name} '{arm}'"'''


def _warnings(found: Mapping[str, Any]) -> list[str]:
    tokens = {run["name"]: run["loss_tokens"] for run in found["runs"]}
    most = max(tokens.values())
    less = [f"{name} {n:,.0f}" for name, n in tokens.items() if n < (1 - UNEQUAL) * most]
    return [f"some trained on {most:,.0f} loss tokens, but {', '.join(less)}: what was less trained is worse"] if less else []
