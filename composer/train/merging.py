"""Merging: what several adapters moved, brought together into one plain checkpoint.

Each adapter says by how much it moved the weights of the base; a method makes one such delta of several, weight by weight, so
that no more than one weight is held several times. Sums are taken in float64 and rounded once, to the float32 of the result.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from composer.errors import ModelError, SpecError, nearest
from composer.fingerprint import write_json
from composer.spec import seed_of
from composer.train.isolated import isolated
from composer.train.model import adapter_of, fingerprint, load
from composer.train.sparse.mask import extract_mask
from composer.types import ModelRef

if TYPE_CHECKING:
    from torch import Tensor

TOLD = "merge.json"


def summed(deltas: Tensor, weights: Tensor, density: float) -> Tensor:  # noqa: ARG001
    """Return the sum of deltas, each times its weight; ``deltas`` is of shape (adapters, ...), ``weights`` (adapters,).

    References
    ----------
    Ilharco et al. 2022, Editing Models with Task Arithmetic (2212.04089), section 2.

    Examples
    --------
    >>> import torch
    >>> summed(torch.tensor([[2.0, 0.0], [-1.0, 4.0]]), torch.tensor([1.0, 0.5]), 1.0)
    tensor([1.5000, 2.0000])
    """
    from peft.utils.merge_utils import task_arithmetic

    out: Tensor = task_arithmetic(list(deltas), weights)
    return out


def ties(deltas: Tensor, weights: Tensor, density: float) -> Tensor:
    """Return the weighted mean of the deltas that agree with the sign of the weighted sum; a sum of zero counts as positive.

    Of each delta the ``density`` largest entries are kept first, and never one that is zero.

    References
    ----------
    Yadav et al. 2023, TIES-Merging (2306.01708), algorithm 1, with weights as mergekit takes them.

    Examples
    --------
    >>> import torch
    >>> ties(torch.tensor([[2.0, 2.0, 1.0, 0.0], [-1.0, 1.0, -1.0, 0.0]]), torch.ones(2), 1.0)
    tensor([2.0000, 1.5000, 1.0000, 0.0000])
    """
    import torch
    from peft.utils.merge_utils import calculate_majority_sign_mask, reshape_weight_task_tensors

    if density < 1:
        deltas = torch.stack([each * extract_mask({"": each}, 1 - density).boolean("") for each in deltas])
    weights = reshape_weight_task_tensors(deltas, weights)
    agreeing = calculate_majority_sign_mask(deltas * weights)
    shares = (agreeing * weights).sum(0)
    return torch.where(shares > 0, (deltas * weights * agreeing).sum(0) / shares.clamp(min=1e-300), 0.0)


def dare(deltas: Tensor, weights: Tensor, density: float) -> Tensor:
    """Return the weighted sum of deltas of which a share of entries by chance is left, ``density``, and made as much larger.

    References
    ----------
    Yu et al. 2023, Language Models are Super Mario (2311.03099), drop and rescale.
    """
    import torch
    from peft.utils.merge_utils import random_pruning

    return summed(torch.stack([random_pruning(each, density, rescale=True) for each in deltas]), weights, density)


METHODS: Mapping[str, Callable[[Any, Any, float], Any]] = {
    "add": summed,
    "task_arithmetic": summed,
    "ties": ties,
    "dare": dare,
}
WEIGHTED, PRUNING = ("task_arithmetic", "ties", "dare"), ("ties", "dare")


def merge(
    base: ModelRef, trained: Sequence[Path], *, method: str = "add", weights: Sequence[float] | None = None,
    density: float | None = None, seed: int = 0, folder: Path,
) -> dict[str, Any]:  # fmt: skip
    """Put several adapters on their base at once, and write a plain checkpoint with tokenizer and chat template.

    Parameters
    ----------
    base
        The model that all of them were trained on.
    trained
        Folders of trained artifacts, or of their adapters: sparse vectors of lota, LoRAs, or entries of shira.
    method
        One of `METHODS`; ``add`` takes no weights, and ``ties`` and ``dare`` alone a density.
    weights
        One for each adapter, 1 where absent; those of ties are positive.
    density
        Which share of each delta's entries is used, in (0, 1]; all where absent.
    seed
        Seed of what dare leaves out.
    folder
        Where the checkpoint is written, float32, aside and renamed; it must not be there yet.

    Returns
    -------
    dict
        What was merged and how, which ``merge.json`` says as well.

    Raises
    ------
    SpecError
        For settings that do not fit the method, or a folder that is there.
    ModelError
        For an adapter of another base or of other shapes, or one that cannot be merged.
    """
    import torch

    factors = _checked(trained, method, weights, density, folder)
    with isolated(seed_of(seed, "merge")):
        network, tokenizer = load(base, device="cpu", exact=True)
        told = {"method": method, "weights": factors, "density": density or 1.0, "seed": seed, "base": fingerprint(network)}
        each = [_deltas(network, path) for path in trained]
        told["moved"] = [len(deltas) for deltas in each]
        _check_names(set().union(*each), network)
        scale = torch.tensor(factors, dtype=torch.float64)
        with torch.no_grad():
            for name, weight in network.named_parameters():
                if any(name in deltas for deltas in each):
                    stack = torch.stack([_delta(deltas, name, weight) for deltas in each])
                    weight.copy_(weight.double() + METHODS[method](stack, scale, density or 1.0))
        _write(network, tokenizer, told, folder)
    return told | {"folder": str(folder)}


def _checked(
    trained: Sequence[Path], method: str, weights: Sequence[float] | None, density: float | None, folder: Path
) -> list[float]:
    if method not in METHODS:
        raise SpecError(f"unknown method '{method}'", where="method", hint=nearest(method, METHODS))
    if not trained:
        raise SpecError("nothing to merge", where="trained", expected="at least one adapter")
    if weights is not None and method not in WEIGHTED:
        raise SpecError(f"{method} takes none", where="weights", hint=f"methods with weights: {', '.join(WEIGHTED)}")
    if density is not None and method not in PRUNING:
        raise SpecError(f"{method} takes none", where="density", hint=f"methods with a density: {', '.join(PRUNING)}")
    if density is not None and not 0 < density <= 1:
        raise SpecError("no density", where="density", expected="a share in (0, 1]", got=density)
    factors = [1.0] * len(trained) if weights is None else list(map(float, weights))
    low = 0.0 if method == "ties" else float("-inf")
    if len(factors) != len(trained) or not all(low < each < float("inf") for each in factors):
        expected = f"{len(trained)}, each a {'positive ' if method == 'ties' else ''}number"
        raise SpecError("no such weights", where="weights", expected=expected, got=", ".join(map(str, factors)))
    if folder.exists():
        raise SpecError("it is there already", where="out", got=str(folder), hint="give another folder, or remove it")
    return factors


def _deltas(network: Any, path: Path) -> Mapping[str, Callable[[], Tensor]]:
    if (path / "model").is_dir():
        hint = "adapters alone can be merged: lora, lota, shira"
        raise ModelError("a whole model, not an adapter", where=str(path), expected="adapter/", got="model/", hint=hint)
    folder = path / "adapter" if (path / "adapter").is_dir() else path
    deltas: Mapping[str, Callable[[], Tensor]] = adapter_of(network, folder).deltas(network, folder)
    return deltas


def _check_names(moved: set[str], network: Any) -> None:
    if unknown := moved - {name for name, _ in network.named_parameters()}:
        hint = "it is tied to another, or is not of this model"
        raise ModelError("a weight that the base does not hold by itself", where="trained", got=min(unknown), hint=hint)


def _delta(deltas: Mapping[str, Callable[[], Tensor]], name: str, weight: Tensor) -> Tensor:
    import torch

    return deltas[name]() if name in deltas else torch.zeros(weight.shape, dtype=torch.float64)


def _write(network: Any, tokenizer: Any, told: Mapping[str, Any], folder: Path) -> None:
    aside = folder.with_name(f".{folder.name}.aside")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    network.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    write_json(aside / TOLD, told)
    aside.rename(folder)
