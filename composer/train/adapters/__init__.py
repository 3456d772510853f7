"""Adapters: which parameters of a model move, what is added to its loss, and how the result lies on disk.

An adapter changes a model in place before training and is asked at four moments of every step. The trainer knows nothing else
of it, so that a method is one file here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from composer.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor


class Adapter(Spec):
    """The base of every adapter; its fields are the method's settings.

    ``where`` is the subfolder of a trained artifact that it writes, and ``needs_base`` says whether that subfolder is of use
    only on top of the base model.
    """

    name: str

    where: ClassVar[str]
    needs_base: ClassVar[bool]
    reference: ClassVar[str]
    summary: ClassVar[str]

    @abstractmethod
    def attach(self, model: Any, *, previous: Path | None, seed: int) -> Any:
        """Return the module to train, whose output is still the model's (or the previous artifact's).

        Parameters
        ----------
        model
            The model that was loaded: the base, or the previous artifact where it does not need its base.
        previous
            Folder of a trained artifact of the same kind to go on from.
        seed
            Seed of whatever is drawn.

        Raises
        ------
        SpecError
            Where the settings do not fit the model or the previous artifact.
        """

    @abstractmethod
    def save(self, model: Any, tokenizer: Any, folder: Path) -> None:
        """Write the trained module into ``folder/<where>`` as safetensors."""

    def extra_loss(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor | None:  # noqa: ARG002
        """Return a term to add to the token mean, right after the forward pass of ``batch``; none unless a method has one.

        A batch of several micro-batches takes the mean of their terms, weighted by their trained tokens.
        """
        return None

    def after_backward(self, model: Any) -> None:
        """Change gradients once all of a step's have come, before they are clipped."""

    def after_step(self, model: Any) -> None:
        """Change parameters once the optimiser has moved them."""

    def state(self, model: Any) -> dict[str, Tensor]:
        """Return by name exactly the parameters that training moves."""
        return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


# The members stand on the base above.
from composer.train.adapters.full import Full  # noqa: E402
from composer.train.adapters.lora import Lora  # noqa: E402

ADAPTERS: dict[str, type[Adapter]] = {
    "full": Full,
    "lora": Lora,
}
