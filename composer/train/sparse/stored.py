"""How masks and sparse vectors lie on disk: safetensors with the places of entries, as bits or as numbers.

Places count the entries of one tensor, row by row, in ascending order. A bitmap has a bit for each entry, the first one in the
highest bit of the first byte; it is kept where it is smaller than the numbers, above one entry in 32.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from composer.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

POLARITY = "kept entries are those that training moves"
AGAIN = "make it again"
Shapes = Mapping[str, tuple[int, ...]]


def size(shape: tuple[int, ...]) -> int:
    """Return how many entries a tensor of a shape has."""
    return int(np.prod(shape, dtype=np.int64))


def packed(places: Tensor, n: int) -> Tensor:
    """Return ascending places among n entries as they are kept: a uint8 bitmap, or int32 or int64 numbers.

    Examples
    --------
    >>> import torch
    >>> packed(torch.tensor([0, 3]), 8), packed(torch.tensor([40]), 64)
    (tensor([144], dtype=torch.uint8), tensor([40], dtype=torch.int32))
    """
    import torch

    wide = torch.int32 if n <= np.iinfo(np.int32).max else torch.int64
    if -(-n // 8) >= len(places) * wide.itemsize:
        return places.to(wide)
    bits = np.zeros(n, dtype=np.bool_)
    bits[places.numpy()] = True
    return torch.from_numpy(np.packbits(bits))


def unpacked(kept: Tensor, n: int) -> Tensor | None:
    """Return the int64 places that `packed` kept, or None where they are not ascending places among n entries."""
    import torch

    if kept.dim() != 1 or kept.dtype not in (torch.uint8, torch.int32, torch.int64):
        return None
    if kept.dtype == torch.uint8:
        bits = np.unpackbits(kept.numpy())
        fits = len(bits) == 8 * -(-n // 8) and not bits[n:].any()
        return torch.from_numpy(np.flatnonzero(bits)) if fits else None
    places = kept.long()
    fits = not len(places) or (int(places[0]) >= 0 and int(places[-1]) < n and bool((places[1:] > places[:-1]).all()))
    return places if fits else None


def write(path: Path, kind: str, tensors: Mapping[str, Tensor], shapes: Shapes) -> None:
    """Write tensors with what they are, aside and renamed; equal content gives equal bytes."""
    from safetensors.torch import save_file

    told = {"kind": kind, "polarity": POLARITY, "shapes": {name: list(shape) for name, shape in shapes.items()}}
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.aside")
    # One entry only: safetensors keeps several in an order by chance.
    save_file({name: each.contiguous() for name, each in tensors.items()}, aside, metadata={"composer": json.dumps(told)})
    aside.replace(path)


def read(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, tuple[int, ...]]]:
    """Return the tensors of a file and the shapes of the tensors that they are about.

    Raises
    ------
    ModelError
        Where there is no such file, or one that was cut short, is of another kind, or keeps entries in the other sense.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ModelError(f"no {kind} here", where=str(path.parent), expected=path.name, hint=AGAIN)
    try:
        with safe_open(path, framework="pt") as file:
            told = json.loads((file.metadata() or {}).get("composer", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"a {kind} that cannot be read: {error}", where=str(path), hint=AGAIN) from None
    if told.get("kind") != kind or told.get("polarity") != POLARITY:
        expected, got = f"a {kind} in which {POLARITY}", f"{told.get('kind')} in which {told.get('polarity')}"
        raise ModelError(f"not a {kind} of ours", where=str(path), expected=expected, got=got)
    return tensors, {name: tuple(shape) for name, shape in told["shapes"].items()}


def places_of(tensors: Mapping[str, Tensor], shapes: Shapes, *, where: str) -> dict[str, Tensor]:
    """Return the places of every tensor, out of those that were read as ``<name>/places``.

    Raises
    ------
    ModelError
        Where some are missing, or are no places in a tensor of that shape.
    """
    out: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        kept = tensors.get(f"{name}/places")
        places = None if kept is None else unpacked(kept, size(shape))
        if places is None:
            raise ModelError("no places of entries", where=f"{where}, {name}", expected=f"some of {size(shape)}", hint=AGAIN)
        out[name] = places
    return out
