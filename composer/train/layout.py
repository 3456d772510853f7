"""The rows of a step as tensors: side by side and padded, or behind one another in bins.

A model sees every row by itself either way, so that the layout decides what a step costs and nothing of what it learns.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from composer.encode import Encoding
from composer.errors import ModelError
from composer.train.batches import Row

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100  # the label of a token that is not trained on
EXACT, ROUGH = 1e-4, 0.25  # nats that rounding may do to a loss, with weights in float32 and in fewer bits


def padded(rows: Sequence[Row]) -> dict[str, Tensor]:
    """Return the tensors of a batch with one row in each tensor row, padded on the right.

    ``input_ids``, ``attention_mask`` and ``labels`` are int64 of shape (rows, longest); a label is the token where it is
    trained on and -100 elsewhere, and always -100 on the first token, which nothing predicts. ``domain`` is int64 of shape
    (rows,).
    """
    import torch

    batch, real = _filled([[row] for row in rows])
    return {**batch, "attention_mask": torch.from_numpy(real.astype(np.int64))}


def packed(rows: Sequence[Row], *, length: int) -> dict[str, Tensor]:
    """Return the tensors of a batch with one of :func:`bins` in each tensor row.

    ``input_ids``, ``position_ids`` and ``labels`` are int64 of shape (bins, longest) and ``domain`` of shape (bins,). Positions
    count from 0 in every row, which is how transformers tells the rows of a bin apart where it gets no attention mask; labels
    are those of :func:`padded`, so that nothing is predicted across a border. Every token of padding has position 0 and with it
    nothing but itself to see.
    """
    import torch

    members = bins(rows, length=length)
    batch, real = _filled(members)
    lengths = np.array([row.n_tokens for each in members for row in each])
    positions = np.zeros(real.shape, dtype=np.int64)
    positions[real] = np.arange(lengths.sum()) - np.repeat(lengths.cumsum() - lengths, lengths)
    return {**batch, "position_ids": torch.from_numpy(positions)}


def bins(rows: Sequence[Row], *, length: int) -> list[list[Row]]:
    """Return the rows in bins of one domain and at most ``length`` tokens; no row may be longer.

    Rows are taken from the longest to the shortest, and each goes where it leaves the least room (best fit decreasing, Johnson
    et al., SIAM J. Comput. 3, 1974). Rows stand in a bin in their order, and the bins in the order of their first rows.

    Examples
    --------
    >>> rows = [Row.of(str(n), 0, Encoding(tuple(range(n)), (True,) * n)) for n in (3, 6, 5, 2, 4)]
    >>> [[row.sample_id for row in members] for members in bins(rows, length=10)]
    [['3', '5', '2'], ['6', '4']]
    """
    found: list[list[int]] = []
    rooms: dict[int, list[tuple[int, int]]] = {}  # of a domain's bins, in ascending order, with the bins
    for i in sorted(range(len(rows)), key=lambda i: -rows[i].n_tokens):
        n, own = rows[i].n_tokens, rooms.setdefault(rows[i].domain, [])
        place = bisect_left(own, (n, 0))
        if place == len(own):
            own.append((length, len(found)))
            found.append([])
        room, k = own.pop(place)
        found[k].append(i)
        insort(own, (room - n, k))
    return [[rows[i] for i in members] for members in sorted(map(sorted, found))]


def micro(batch: Mapping[str, Tensor], *, size: int | None) -> list[dict[str, Tensor]]:
    """Return a batch in parts of at most ``size`` tensor rows, each as wide as its longest; the whole batch without a size."""
    if size is None:
        return [dict(batch)]
    edge = batch["attention_mask"] if "attention_mask" in batch else batch["position_ids"]  # 0 in all that is padding
    parts = []
    for i in range(0, len(edge), size):
        width = int(edge[i : i + size].any(0).nonzero().max()) + 1
        parts.append({k: v[i : i + size, :width] if v.dim() == 2 else v[i : i + size] for k, v in batch.items()})
    return parts


def token_losses(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """Return the float32 losses in nats of a batch's trained tokens, tensor row by tensor row, of shape (trained,)."""
    import torch

    given = {name: batch[name] for name in ("input_ids", "attention_mask", "position_ids") if name in batch}
    following = torch.nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=IGNORED).flatten()
    places = (following != IGNORED).nonzero().squeeze(1)  # numbers, for the gradient of a boolean mask takes a third longer
    with _asked_at(places, model, batch["input_ids"].shape):
        logits = model(**given, use_cache=False).logits.flatten(0, 1)
    logits = logits if len(logits) == len(places) else logits.index_select(0, places)  # fewer: the last column has no place
    return torch.nn.functional.cross_entropy(logits.float(), following[places], reduction="none")


def real_tokens(batch: Mapping[str, Tensor]) -> Tensor:
    """Return which tokens of a batch are no padding, bool of the shape of ``input_ids``.

    In bins the padding has position 0 with no position 1 behind it; a row's first token has one, for no row that is trained on
    or looked at is shorter than two tokens.

    Examples
    --------
    >>> import torch
    >>> real_tokens({"position_ids": torch.tensor([[0, 1, 2, 0, 1, 0, 0]])}).tolist()
    [[True, True, True, True, True, False, False]]
    """
    import torch

    if "attention_mask" in batch:
        return batch["attention_mask"].bool()
    positions = batch["position_ids"]
    return (positions > 0) | (torch.nn.functional.pad(positions[:, 1:], (0, 1)) == 1)


def domain_of_tokens(batch: Mapping[str, Tensor]) -> NDArray[np.int64]:
    """Return the domain's number of every trained token of a batch, in the order of :func:`token_losses`."""
    trained = batch["labels"][:, 1:] != IGNORED
    return np.asarray(batch["domain"][:, None].expand_as(trained)[trained].cpu().numpy(), dtype=np.int64)


def check_isolation(model: Any, *, micro_batch: int | None = None) -> None:
    """Refuse a model, in evaluation mode, whose losses of three short rows in two bins are not those of the rows alone.

    The bins go through the model as in training, ``micro_batch`` of them at once: some kernels keep rows apart in a single bin
    only.

    Raises
    ------
    ModelError
        Where the rows of a bin see one another, in all layers or in some, as they do where a model makes no use of positions.
    """
    import torch

    table = model.get_input_embeddings().weight
    rows = [Row.of("", 0, Encoding(tuple((9 * i + n) % len(table) for i in range(n)), (True,) * n)) for n in (5, 4, 3)]
    together, alone = micro(packed(rows, length=9), size=micro_batch), [padded([row]) for row in rows]
    with torch.no_grad():
        losses = [
            torch.cat([token_losses(model, {k: v.to(table.device) for k, v in part.items()}) for part in layout])
            for layout in (together, alone)
        ]
    off = float((losses[0] - losses[1]).abs().mean())
    if not off <= (EXACT if table.dtype == torch.float32 else ROUGH):
        what, got = (
            "the model lets rows of a bin see one another",
            f"{type(model).__name__}, whose losses differ by {off:.2g} nats",
        )
        expected = "one that keeps them apart by position_ids"
        raise ModelError(what, where="train.packing", expected=expected, got=got, hint="leave train.packing out")


@contextmanager
def _asked_at(places: Tensor, model: Any, shape: Sequence[int]) -> Iterator[None]:
    """Let the output layer see the hidden states at some places only, numbers among all tokens of a batch of this shape.

    What it says of the others nobody reads, and with a large vocabulary they are the largest tensors of a pass. A compiled pass
    keeps the hooks that it was compiled with, so that it computes them all.
    """
    network = getattr(model, "module", model)  # within DDP
    head = None if getattr(network, "_compiled_call_impl", None) else network.get_output_embeddings()

    def narrowed(_: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        hidden, *more = inputs
        return (hidden.flatten(0, 1).index_select(0, places)[None], *more) if hidden.shape[:2] == shape else None

    hook = None if head is None else head.register_forward_pre_hook(narrowed)
    try:
        yield
    finally:
        if hook is not None:
            hook.remove()


def _filled(bins: Sequence[Sequence[Row]]) -> tuple[dict[str, Tensor], NDArray[np.bool_]]:
    """Return the tensors that both layouts have, and where in them there are tokens and no padding."""
    import torch

    totals = np.array([sum(row.n_tokens for row in members) for members in bins])
    real = np.arange(totals.max()) < totals[:, None]
    tokens = np.concatenate(
        [row.ids for members in bins for row in members]
    )  # all at once: a call of numpy costs a microsecond
    trained = np.concatenate([row.trained for members in bins for row in members])
    ids, labels = np.zeros(real.shape, dtype=np.int64), np.full(real.shape, IGNORED, dtype=np.int64)
    ids[real], labels[real] = tokens, np.where(trained, tokens, IGNORED)
    domain = torch.tensor([members[0].domain for members in bins])
    return {"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels), "domain": domain}, real
