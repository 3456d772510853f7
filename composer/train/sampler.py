"""Moving weights for the trainers of others: a sampler of torch, and a callback of transformers that sets its weights.

`train` draws a step's rows when it takes the step; a data loader fetches ahead, so that here weights are in force a batch or
two later. Import this module only beside transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Sampler
from transformers import TrainerCallback

from composer.errors import InputError
from composer.train.order import Weighted
from composer.train.reweight import Look, Reweighting
from composer.train.trace import series

Losses = Callable[[Any], Mapping[str, float]]


class DomainSampler(Sampler[int]):
    """The rows of a data set, drawn by domain weights that may be set anew between batches (:class:`Weighted`).

    A domain's rows come in their order in the data set, each once. Give one to a Trainer, TRL's among them, by overriding
    ``_get_train_sampler``; every process needs the same.

    Parameters
    ----------
    domains
        The domain of every row.
    sizes
        The size of every row in the unit of the weights, such as its trained tokens; all the same when absent.
    weights
        The share of every domain to begin with, of any scale.
    batch_size
        Rows of an optimiser step over all processes, after which weights may change.
    n_steps
        How many steps there are to be; as many as there are rows for when absent.

    Raises
    ------
    InputError
        For a domain without a weight, weights that are no shares, and more steps than there are rows for.

    Examples
    --------
    >>> sampler = DomainSampler(["law", "law", "code", "law", "code"], weights={"law": 1, "code": 1}, batch_size=2, n_steps=2)
    >>> list(sampler)
    [0, 2, 1, 4]
    """

    def __init__(
        self, domains: Sequence[str], *, weights: Mapping[str, float], batch_size: int, sizes: Sequence[int] | None = None,
        n_steps: int | None = None,
    ) -> None:  # fmt: skip
        self.domains = tuple(weights)
        if missing := sorted(set(domains) - set(self.domains)):
            raise InputError("no weight for a domain", where="weights", expected=", ".join(weights), got=", ".join(missing))
        number = {domain: k for k, domain in enumerate(self.domains)}
        own: list[list[Any]] = [[] for _ in self.domains]
        for i, domain in enumerate(domains):
            own[number[domain]].append(i)
        supply = [(rows, [1 if sizes is None else sizes[i] for i in rows]) for rows in own]
        steps = -(-len(domains) // batch_size) if n_steps is None else n_steps
        self.order = Weighted(supply, weights=weights.values(), size=batch_size, n_steps=steps)
        self._rows = min(steps * batch_size, len(domains))

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[int]:
        """Go on drawing to the last step."""
        for _ in range(self.order.state()["taken"], self.order.n_steps):
            yield from self.order.take()  # type: ignore[misc]  # its rows are numbers here

    def set_weights(self, weights: Mapping[str, float]) -> None:
        """Draw by other weights from the next step on."""
        self.order.set_weights([weights[domain] for domain in self.domains])

    def state_dict(self) -> dict[str, Any]:
        """Return where the sampler stands, as plain JSON."""
        return self.order.state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where a sampler of the same rows stood."""
        self.order.restore(state)


class Reweight(TrainerCallback):  # type: ignore[misc]
    """A law at work in a Trainer: after every so many optimiser steps it looks at losses and sets a sampler's weights.

    Parameters
    ----------
    law
        A member of ``REWEIGHTING``.
    sampler
        Whose weights move.
    losses
        What the model loses on held-out rows, token means in nats by domain; every process must come to the same.
    reference
        Reference losses, for laws that need them.

    ``report``, when it is set, is called with the weights and losses of every look, under the names of
    :func:`composer.train.trace.series`; a Trainer's own ``log`` is meant.
    """

    def __init__(
        self, law: Reweighting, sampler: DomainSampler, losses: Losses, *, reference: Mapping[str, float] | None = None
    ) -> None:
        self.law, self.sampler, self.losses = law, sampler, losses
        self.reference = None if reference is None else np.array([reference[domain] for domain in sampler.domains])
        self.report: Callable[[dict[str, float]], None] | None = None
        self.moves: list[tuple[int, dict[str, float]]] = []
        self._previous: np.ndarray | None = None
        self._memory: Mapping[str, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:  # noqa: ARG002
        """Look before training."""
        self._look(state.global_step, given["model"])

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:  # noqa: ARG002
        """Look where the law is due."""
        if self.law.due(state.global_step):
            self._look(state.global_step, given["model"])

    def _look(self, step: int, model: Any) -> None:
        told = self.losses(model)
        domains = self.sampler.domains
        loss, weights = np.array([told[domain] for domain in domains]), np.array(self.sampler.order.weights)
        move = self.law.move(Look(
            step=step, domains=domains, weights=weights / weights.sum(), loss=loss, previous=self._previous,
            reference=self.reference, train_loss=np.full(len(domains), np.nan), memory=self._memory,
        ))  # fmt: skip
        self._previous, self._memory = loss, move.memory
        self.sampler.set_weights(dict(zip(domains, move.weights.tolist(), strict=True)))
        if self.report is not None:
            self.report(series("weight", domains, move.weights) | series("held_out_loss", domains, loss))
        self.moves.append((step, dict(zip(domains, move.weights.tolist(), strict=True))))
