"""OSF: the strongest singular directions of every chosen weight are held fast, and what is orthogonal to them moves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from composer.errors import SpecError
from composer.spec import seed_of
from composer.train.adapters import Adapter
from composer.train.adapters.wrapped import AT, layers_of, named_for_peft, only_linear, wrapped
from composer.train.model import linear_maps
from composer.train.targets import chosen

if TYPE_CHECKING:
    from torch import Tensor


class Osf(Adapter):
    """Train the weak part of ``W = U_high S_high V_high + U_low S_low V_low``, its singular value decomposition at the start.

    ``effective_rank`` singular directions of every map are held, a whole number or a share of the smaller side. The others move
    within what is orthogonal to them: ``U_high^T (W' - W) = 0`` and ``(W' - W) V_high^T = 0``. Gradients are projected (by
    peft) and, since AdamW leaves the subspace again, so are the parameters after every step.

    The result is a whole model: nearly as many numbers move as in full training, and the next phase decomposes what this one
    has left (section 3), so that its strongest directions are held in turn.

    References
    ----------
    Nayak et al. 2025, Sculpting Subspaces: Constrained Full Fine-Tuning in LLMs for Continual Learning (2504.07097), section 3.
    """

    name: Literal["osf"] = "osf"
    effective_rank: Annotated[int, Field(strict=True, ge=1)] | Annotated[float, Field(gt=0, lt=1)] = 0.5
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"

    where: ClassVar[str] = "model"
    needs_base: ClassVar[bool] = False
    reference: ClassVar[str] = "Nayak et al. 2025 (2504.07097), section 3"
    summary: ClassVar[str] = "what is orthogonal to a map's strongest directions moves; the result is a model of its own"

    def attach(self, model: Any, *, seed: int, **_: Any) -> Any:
        """Return a peft model of the decomposed maps, whose output is the model's to within rounding."""
        from peft import OSFConfig

        linear = linear_maps(model)
        places = chosen(linear, self.targets)
        maps = {name: linear[name] for name in linear if name in places}
        only_linear(maps, word=self.name)
        self._fits(maps)
        config = OSFConfig(
            effective_rank=self.effective_rank, target_modules=named_for_peft(self.targets), task_type="CAUSAL_LM"
        )
        return wrapped(model, config, seed=seed_of(seed, self.name))

    def after_step(self, model: Any) -> None:
        """Take out of the weak directions what points along the strong ones."""
        import torch

        with torch.no_grad():
            for layer in layers_of(model).values():
                factors = layer.osf_svd_params[AT]
                if factors["U_low"].grad is None:
                    continue  # a checkpoint that is put back has been projected, and keeps its bits
                _project(factors["U_low"], layer._osf_U_low_init[AT], [each for _, each in layer._osf_U_high.items()])
                _project(factors["V_low"].mT, layer._osf_V_low_init[AT].mT, [each.mT for _, each in layer._osf_V_high.items()])

    def save(self, model: Any, tokenizer: Any, folder: Path) -> None:
        """Write a plain transformers folder of the whole weights, tokenizer and chat template included."""
        import torch

        network = model.get_base_model()
        state = {name.replace(".base_layer.", "."): value for name, value in network.state_dict().items() if "osf_" not in name}
        with torch.no_grad():
            for name, layer in layers_of(model).items():
                state[f"{name}.weight"] = layer.get_base_layer().weight + layer.get_delta_weight(AT)
        network.save_pretrained(folder / self.where, state_dict=state)
        tokenizer.save_pretrained(folder / self.where)

    def _fits(self, maps: Mapping[str, Any]) -> None:
        """Refuse a rank that leaves a map nothing to hold, or nothing to move: peft would hold all in silence."""
        for name, each in maps.items():
            n, asked = min(each.weight.shape), self.effective_rank
            held = int(n * asked) if isinstance(asked, float) else asked
            if not 1 <= held < n:
                expected, got = f"1 to {n - 1} for {name}", f"{asked}, that is {held}"
                what = "nothing is left to move" if held else "nothing is held"
                raise SpecError(what, where="effective_rank", expected=expected, got=got)


def _project(moving: Tensor, start: Tensor, strong: list[Tensor]) -> None:
    """Take out of ``moving`` (n, low) what lies along strong directions; peft keeps none where ``start`` is all the rest."""
    for high in strong:
        moving.sub_(high @ (high.mT @ moving))
    if not strong:
        moving.copy_(start @ (start.mT @ moving))
