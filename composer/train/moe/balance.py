"""Localised balancing: experts and rows are of two types, and the load is to be even but for a tilt by type.

Between a row and an expert of its type the load counts ``1 + delta`` fold, between others ``1 - delta`` fold, and what is
counted is to be the same everywhere. What counts more must then be less: at the minimum the experts of a row's own type have
the share ``(1 - delta) / 2`` of its load, and the others ``(1 + delta) / 2``. The two groups begin alike, so that it matters
little which is called which; whoever wants the own group to have more sets ``own_group="more"``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Form = Literal["var_over_mean", "cv2"]
OwnGroup = Literal["less", "more"]
EPSILON = 1e-10


def importance(row_types: Tensor, expert_types: Tensor, *, delta: float, own_group: OwnGroup = "less") -> Tensor:
    """Return what a row's load on an expert counts: ``1 + delta`` where their types match, else ``1 - delta``.

    The signs are the other way round for ``own_group="more"``. Types are of shapes (rows,) and (experts,), the result is
    float32 (rows, experts).

    References
    ----------
    Dou et al. 2023, LoRAMoE (2312.09979), section 3.3.

    Examples
    --------
    >>> import torch
    >>> types = torch.tensor([True, False])
    >>> importance(types, types, delta=0.5).tolist()
    [[1.5, 0.5], [0.5, 1.5]]
    """
    tilt = delta if own_group == "less" else -delta
    match = row_types[:, None] == expert_types[None, :]
    return 1 + tilt * (2 * match.float() - 1)


def loads(shares: Tensor, real: Tensor) -> Tensor:
    """Return the mean share of every expert over a row's real tokens, which sums to one over the experts.

    The paper sums; a mean is the same for rows of any length and does not see padding.

    Parameters
    ----------
    shares
        Float (..., rows, tokens, experts).
    real
        Bool (rows, tokens); every row has a real token.

    Returns
    -------
    Tensor
        Float (..., rows, experts).

    Examples
    --------
    >>> import torch
    >>> loads(torch.tensor([[[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]]), torch.tensor([[True, True, False]])).tolist()
    [[0.75, 0.25]]
    """
    import torch

    mask = real.to(shares.dtype)
    return torch.einsum("...mtn,mt->...mn", shares, mask / mask.sum(1, keepdim=True).clamp(min=1))


def balance(load: Tensor, counts: Tensor, *, form: Form = "var_over_mean") -> Tensor:
    """Return how uneven ``Z = counts * load`` is: its variance over its mean, or over its mean squared (``cv2``).

    Mean and variance (of the population) are over all rows and experts of a layer; the result is the mean over the layers, so
    that its weight does not grow with a model's depth. An epsilon of 1e-10 stands beside the denominator.

    Parameters
    ----------
    load
        Float (layers, rows, experts) or (rows, experts), of :func:`loads`.
    counts
        Float (rows, experts), of :func:`importance`.

    References
    ----------
    Dou et al. 2023, LoRAMoE (2312.09979), section 3.3; its published code has ``cv2``, with the unbiased variance.

    Examples
    --------
    >>> import torch
    >>> uniform = torch.full((2, 4), 0.25)
    >>> counts = importance(torch.tensor([0, 1]), torch.tensor([0, 0, 1, 1]), delta=0.1)
    >>> round(float(balance(uniform, counts)), 6), round(float(balance(uniform, counts, form="cv2")), 6)
    (0.0025, 0.01)
    """
    z = (load * counts).flatten(-2)
    mean = z.mean(-1)
    var = (z - mean[..., None]).square().mean(-1)
    return (var / ((mean if form == "var_over_mean" else mean.square()) + EPSILON)).mean()
