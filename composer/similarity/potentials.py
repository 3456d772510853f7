"""Potentials of the entropic transport problem, by stages of falling regularisation, on the processor or a GPU.

They only say where to look: what is made of them is proven in 64 bits afterwards, so kernels of 32 bits do, and a GPU may
change their last digits.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from composer.errors import SpecError

Device = Literal["auto", "cpu", "cuda"]
Vector = NDArray[np.float64]
Stage = tuple[float, int]

RELAX = 1.5
"""How far an iteration goes beyond Sinkhorn's own, in logarithms: nearly as exact after a third of the iterations."""

_PLAIN = 2  # iterations at either end of a stage that go no further: a kernel made anew settles first, and a plan must add up
_LEAST, _MOST = 1e-30, 1e30
_EXPONENT = 80.0  # exp(80) times any sum of weights is still a number of 32 bits
_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


def potentials(
    price: Vector, a: Vector, b: Vector, *, stages: Sequence[Stage], start: tuple[Vector, Vector] | None = None,
    device: Device = "cpu",
) -> tuple[Vector, Vector]:  # fmt: skip
    """Return potentials of the entropic problem, float64 (m,) and (n,), whose sum is near what a pair of the optimum costs.

    ``f_i = -e log sum_j b_j exp((g_j - C_ij) / e)`` and likewise g, by turns, in the form that leaves the weights out of the
    potentials, over-relaxed. The kernel is made anew from the potentials at the beginning of every stage.

    Parameters
    ----------
    price
        (m, n) costs, of mean about one.
    a, b
        (m,) and (n,) weights with sum one.
    stages
        Regularisation e and iterations, in turn.
    start
        Potentials to begin with; the least cost of every row and zero when absent.
    device
        Where: ``auto`` is a GPU if torch can use one.

    Raises
    ------
    SpecError
        Where a GPU is asked for that torch cannot use.

    References
    ----------
    Cuturi, arXiv:1306.0895 (the iterations); Thibault et al., arXiv:1711.01851 (over-relaxation).
    """
    f, g = start or (price.min(axis=1), np.zeros(len(b)))
    place = _place(device)
    if place == "cpu":
        return _by_numpy(price, a, b, f, g, stages)
    return _by_torch(price, a, b, f, g, stages, place=place)


def kernel(price: Vector, f: Vector, g: Vector, e: float) -> NDArray[np.float32]:
    """Return ``exp((f_i + g_j - C_ij) / e)``, float32 (m, n), cut off before it overflows."""
    k = np.empty(price.shape, dtype=np.float32)
    np.multiply(price, -1 / e, out=k, casting="same_kind")
    k += (f / e).astype(np.float32)[:, None]
    k += (g / e).astype(np.float32)
    np.minimum(k, np.float32(_EXPONENT), out=k)
    return np.asarray(np.exp(k, out=k))


def _by_numpy(price: Vector, a: Vector, b: Vector, f: Vector, g: Vector, stages: Sequence[Stage]) -> tuple[Vector, Vector]:
    for e, rounds in stages:
        k = kernel(price, f, g, e)
        u, v = np.ones(len(a)), np.ones(len(b))
        for turn in range(rounds):
            plain = turn < _PLAIN or turn >= rounds - _PLAIN
            u = _relaxed(u, k @ (b * v).astype(np.float32), plain=plain)
            v = _relaxed(v, (a * u).astype(np.float32) @ k, plain=plain)
        f, g = f + e * np.log(u), g + e * np.log(v)
    return f, g


def _relaxed(u: Vector, sums: NDArray[np.float32], *, plain: bool) -> Vector:
    new = 1 / np.maximum(sums.astype(np.float64), _LEAST)
    if plain:
        return new
    return np.asarray(np.clip(new * (new / u) ** (RELAX - 1), _LEAST, _MOST))


def _by_torch(
    price: Vector, a: Vector, b: Vector, f: Vector, g: Vector, stages: Sequence[Stage], *, place: str
) -> tuple[Vector, Vector]:
    """The same in torch: the kernel in 32 bits on the device, the vectors there in 64."""
    import torch

    def there(values: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(place)

    def relaxed(u: torch.Tensor, sums: torch.Tensor, plain: bool) -> torch.Tensor:
        new = 1 / sums.double().clamp_min(_LEAST)
        return new if plain else (new * (new / u) ** (RELAX - 1)).clamp(_LEAST, _MOST)

    with torch.inference_mode():
        worth, mass_a, mass_b = there(price.astype(np.float32)), there(a), there(b)
        pf, pg = there(f), there(g)
        for e, rounds in stages:
            k = worth * (-1 / e)
            k += (pf / e).float()[:, None]
            k += (pg / e).float()
            k.clamp_(max=_EXPONENT).exp_()
            u, v = torch.ones_like(mass_a), torch.ones_like(mass_b)
            for turn in range(rounds):
                plain = turn < _PLAIN or turn >= rounds - _PLAIN
                u = relaxed(u, k @ (mass_b * v).float(), plain)
                v = relaxed(v, (mass_a * u).float() @ k, plain)
            pf, pg = pf + e * u.log(), pg + e * v.log()
        return pf.cpu().numpy(), pg.cpu().numpy()


def _place(device: Device) -> str:
    """Return ``cpu`` or ``cuda``; torch is not loaded where there is neither a driver nor torch already."""
    if device == "cpu" or (device == "auto" and "torch" not in sys.modules and not any(Path(d).exists() for d in _DRIVERS)):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise SpecError("no GPU that torch can use here", where="distance.device", got="cuda", expected="auto or cpu")
    return "cpu"
