"""What must be made before an adapter is trained: a mask by calibration, or one LoRA for each of its domains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from composer.train.calibrate import calibration
from flows.plan import Call, Step
from flows.recipe import Recipe


def made_before(
    call: Call, recipe: Recipe, phase: int, name: str, *, start: Step | None, given: Mapping[str, Any], alone: bool
) -> dict[str, Any]:  # fmt: skip
    """Tell what the recipe's adapter needs for a phase, and return it by the names under which its training takes it.

    ``given`` is what its training is given; ``alone`` says whether the phase's own domains are trained on without those before.
    """
    spec = recipe.train
    assert spec is not None
    out: dict[str, Any] = {}
    if "mask" in spec.adapter.needs:
        out["mask"] = call("mask", name, spec=calibration(spec), start=start, **given)
    if "experts" in spec.adapter.needs:
        names, more = _new_domains(recipe, phase, alone=alone), " alone" if alone else ""
        told = tuple(call("train", f"{each} expert{more}", spec=by_itself(spec), only=each, **given) for each in names)
        out |= {"experts": told, "expert_domains": names}
    return out


def made_for(trained: Sequence[Step]) -> list[Step]:
    """Return the steps that made what these trainings' adapters need."""
    return [made for step in trained for made in step.needs if made.stage.name == "mask" or "only" in made.values]


def by_itself(spec: Any) -> Any:
    """Return how a domain is trained on by itself: without a law, and of a mixture its expert."""
    own = spec.adapter.expert if "experts" in spec.adapter.needs else spec.adapter
    return spec.model_copy(update={"law": None, "adapter": own})


def _new_domains(recipe: Recipe, phase: int, *, alone: bool) -> tuple[str, ...]:
    """Return the domains of a phase that have no expert yet."""
    if alone:
        return recipe.groups[phase]
    before = {domain for trained in recipe.phase_domains[:phase] for domain in trained}
    return tuple(domain for domain in recipe.phase_domains[phase] if domain not in before)
