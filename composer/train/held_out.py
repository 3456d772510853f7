"""Losses of held-out rows while training goes on: exact token means of every domain, over all processes, at a bounded cost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from composer.errors import InputError
from composer.progress import say
from composer.spec import Spec
from composer.train import shards
from composer.train.batches import Row
from composer.train.layout import IGNORED, domain_of_tokens, micro, token_losses

if TYPE_CHECKING:
    from composer.train.trainer import ComposerTrainer

_FORWARD = 1 / 3  # a forward pass over the forward and backward passes of training


class HeldOutRows(Spec):
    """How many held-out rows a look reads: at most ``rows`` of a domain, and at most a ``share`` of what training costs.

    The share is counted in tokens, a forward pass as a third of a training step's work, so that it is the same everywhere;
    rows are left out of all domains in turn until it is kept, but for one of each.
    """

    rows: int = Field(default=64, ge=1)
    share: float = Field(default=0.1, gt=0, le=1)

    def chosen(self, rows: Sequence[Row], domains: Sequence[str], *, tokens_between: float) -> list[Row]:
        """Return the rows of a look, the longest first; ``tokens_between`` two looks are trained on, padding not counted.

        Raises
        ------
        InputError
            For a domain without a held-out row.
        """
        own = [[row for row in rows if row.domain == k][: self.rows] for k in range(len(domains))]
        if missing := [name for name, each in zip(domains, own, strict=True) if not each]:
            hint = "set holdout, or add sources of role validation"
            raise InputError("no held-out rows to read losses from", where="train.law", got=", ".join(missing), hint=hint)
        out, left = [each[0] for each in own], self.share * tokens_between / _FORWARD
        left -= sum(row.n_tokens for row in out)
        for turn in range(1, self.rows):
            for each in own:
                if turn < len(each) and each[turn].n_tokens <= left:
                    out.append(each[turn])
                    left -= each[turn].n_tokens
        if left < 0:
            say(f"one held-out row a domain costs more than {self.share:.0%} of training: look less often than now")
        return sorted(out, key=lambda row: -row.n_tokens)


@dataclass(frozen=True)
class Losses:
    """Token means in nats, float64 (domains,), and how many tokens they are of, int64 (domains,)."""

    mean: NDArray[np.float64]
    n_tokens: NDArray[np.int64]


class HeldOut:
    """The rows of every look; ``seconds`` is what looking has taken."""

    def __init__(self, rows: Sequence[Row], n_domains: int, *, batch: int) -> None:
        self.rows, self.n_domains, self.batch, self.seconds = rows, n_domains, batch, 0.0

    def look(self, trainer: ComposerTrainer) -> Losses:
        """Return the losses of the model as it is; every process reads its part of the rows and all get the same sums."""
        import torch

        begun, sums = time.perf_counter(), np.zeros((2, self.n_domains))
        mine = self.rows[trainer.args.process_index :: trainer.args.world_size]
        batch = trainer.laid_out(mine or self.rows[:1])
        if not mine:
            batch["labels"].fill_(IGNORED)
        trainer.model.eval()
        with torch.no_grad():
            for part, _ in shards.evened(micro(batch, size=self.batch), device=trainer.args.device):
                sums += self._sums(trainer, trainer._prepare_inputs(part))
        sums = trainer.summed(sums)
        self.seconds += time.perf_counter() - begun
        return Losses(sums[0] / sums[1], sums[1].astype(np.int64))

    def _sums(self, trainer: ComposerTrainer, inputs: Any) -> NDArray[np.float64]:
        trainer.adapter.before_forward(trainer.model, inputs)
        domain, weights = domain_of_tokens(inputs), token_losses(trainer.model, inputs).double().cpu().numpy()
        return np.stack([np.bincount(domain, each, minlength=self.n_domains) for each in (weights, np.ones_like(weights))])
