"""Adapters: which parameters of a model move, what is added to its loss, and how the result lies on disk.

An adapter changes a model in place before training and is asked at five moments of every step. The trainer knows nothing else
of it, so that a method is one file here. Beside what is of use on top of a base only lies ``adapter.json``: the method with its
settings and a fingerprint of the base, so that it is loaded with one call (:func:`composer.train.model.load`) and put on no
other base.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from composer.errors import ModelError
from composer.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor


class Adapter(Spec):
    """The base of every adapter; its fields are the method's settings.

    ``where`` is the subfolder of a trained artifact that it writes, and ``needs_base`` says whether that subfolder is of use
    only on top of the base model. ``needs`` names what must be made before: ``mask`` or ``experts``. One that ``exchanges``
    brings the gradients of several processes together itself, in ``after_backward``; otherwise the trainer does.
    """

    name: str

    where: ClassVar[str]
    needs_base: ClassVar[bool]
    needs: ClassVar[tuple[str, ...]] = ()
    exchanges: ClassVar[bool] = False
    reference: ClassVar[str]
    summary: ClassVar[str]

    def check(self, domains: Sequence[str], *, n_phases: int = 1) -> None:
        """Refuse settings that do not fit an experiment of these domains, in so many phases, each on top of the one before.

        Raises
        ------
        SpecError
            Where they name what is none of the domains, or the phases are too many.
        """

    def among(self, domains: Sequence[str]) -> Adapter:  # noqa: ARG002
        """Return the method as it is for one training of an experiment, which has only these of its domains."""
        return self

    @abstractmethod
    def attach(
        self, model: Any, *, previous: Path | None, seed: int, domains: Sequence[str] = (),
        given: Mapping[str, Path] = MappingProxyType({}),
    ) -> Any:  # fmt: skip
        """Return the module to train, whose output is still the model's (or the previous artifact's).

        Parameters
        ----------
        model
            The model that was loaded: the base, or the previous artifact where it does not need its base.
        previous
            Folder of a trained artifact of the same kind to go on from.
        seed
            Seed of whatever is drawn.
        domains
            Names of the domains that the rows of a batch count in ``batch["domain"]``.
        given
            Folders of what was made before, by the names that it ``needs``; one of several parts has a name for each, such as
            ``experts/law``.

        Raises
        ------
        SpecError
            Where the settings do not fit the model or the previous artifact.
        """

    @abstractmethod
    def save(self, model: Any, tokenizer: Any, folder: Path) -> None:
        """Write the trained module into ``folder/<where>`` as safetensors."""

    def apply(self, network: Any, folder: Path) -> Any:  # noqa: ARG002
        """Return a base with what ``save`` left in ``folder``, a ``<where>``, on top of it, ready to be used.

        Raises
        ------
        ModelError
            Where the folder holds nothing of this method, or what was cut short or is of another model.
        """
        raise ModelError("not to be put on a base", where=str(folder), expected="an adapter", got=self.name)

    def deltas(self, network: Any, folder: Path) -> Mapping[str, Callable[[], Tensor]]:  # noqa: ARG002
        """Return by a weight's name what gives by how much it was moved from a base's, float64 in the weight's shape.

        ``folder`` holds what ``save`` left, a ``<where>``; the base comes back as it was.

        Raises
        ------
        ModelError
            Where the folder holds nothing of this method, or what is of another model, or the method is more than sums.
        """
        raise ModelError(
            "it cannot be merged", where=str(folder), expected="sums to weights, of lora, lota or shira", got=self.name
        )

    def optimising(self, model: Any) -> AbstractContextManager[None]:  # noqa: ARG002
        """Return a block within which exactly the parameters that the optimiser is to move need a gradient."""
        return nullcontext()

    def before_forward(self, model: Any, batch: Mapping[str, Tensor]) -> None:
        """See a batch of :mod:`composer.train.layout` before it goes through the model, in training and at held-out looks."""

    def extra_loss(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor | None:  # noqa: ARG002
        """Return a term to add to the token mean, right after the forward pass of ``batch``; none unless a method has one.

        A batch of several micro-batches takes the mean of their terms, weighted by their trained tokens.
        """
        return None

    def after_backward(self, model: Any) -> None:
        """Change gradients once all of a step's have come, before they are clipped."""

    def after_step(self, model: Any) -> None:
        """Change parameters once the optimiser has moved them."""

    def account(self, model: Any) -> dict[str, Tensor]:  # noqa: ARG002
        """Return by name what this process has seen of the training so far, as tensors that are sums and go on growing.

        Checkpoints keep them, and they are summed up over the processes.
        """
        return {}

    def keep(self, model: Any, domains: Sequence[str], folder: Path) -> None:
        """Write beside the trained weights what was seen of the training."""

    def state(self, model: Any) -> dict[str, Tensor]:
        """Return by name exactly the parameters that training moves."""
        return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


# The members stand on the base above.
from composer.train.adapters.full import Full  # noqa: E402
from composer.train.adapters.lora import Lora  # noqa: E402
from composer.train.adapters.loramoe import LoraMoe  # noqa: E402
from composer.train.adapters.lota import Lota  # noqa: E402
from composer.train.adapters.mola import Mola  # noqa: E402
from composer.train.adapters.osf import Osf  # noqa: E402
from composer.train.adapters.shira import Shira  # noqa: E402

ADAPTERS: dict[str, type[Adapter]] = {
    "full": Full,
    "lora": Lora,
    "loramoe": LoraMoe,
    "lota": Lota,
    "mola": Mola,
    "osf": Osf,
    "shira": Shira,
}
