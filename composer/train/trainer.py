"""The Trainer of transformers, held to exact token means, the composition's order and an account of every domain's loss.

One item of its data set is the batch of one optimiser step, so that it never shuffles, groups or drops a row. The step itself
is taken here: micro-batches are cut from the step's batch and every token weighs the same, however they are cut.
Import this module only to train; it loads transformers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from composer.errors import FaultError
from composer.progress import Bar
from composer.train.adapters import Adapter
from composer.train.batches import IGNORED, Row, collate, micro

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Step:
    """What one optimiser step saw: ``losses`` in nats and ``counts`` of trained tokens are sums, of shape (domains,)."""

    rows: Sequence[Row]
    losses: np.ndarray
    counts: np.ndarray

    @property
    def loss(self) -> float:
        """The token mean in nats."""
        return float(self.losses.sum() / self.counts.sum())


class ComposerTrainer(Trainer):  # type: ignore[misc]
    """Train a module on steps made beforehand.

    Parameters
    ----------
    model
        What the adapter attached.
    args
        Arguments whose batch size is one item, that is, one step.
    steps
        The rows of every optimiser step.
    domains
        Names of the domains that the rows count.
    adapter
        Asked at every step for its share in loss, gradients and parameters.
    micro_batch
        Rows of one forward pass; the whole step's when absent.
    shown
        The progress bar.
    """

    def __init__(
        self, *, model: Any, args: TrainingArguments, steps: Sequence[Sequence[Row]], domains: Sequence[str],
        adapter: Adapter, micro_batch: int | None, shown: Bar,
    ) -> None:  # fmt: skip
        callbacks = [_AfterStep(adapter, shown)]
        super().__init__(model=model, args=args, train_dataset=steps, data_collator=_one_step, callbacks=callbacks)
        self.remove_callback(PrinterCallback)  # standard output belongs to whoever runs the pipeline
        self.steps, self.domains, self.adapter, self.micro_batch = steps, domains, adapter, micro_batch
        self.taken: list[Step] = []

    def training_step(self, model: Any, inputs: dict[str, Tensor], num_items_in_batch: Any = None) -> Tensor:  # noqa: ARG002
        """Take the gradient of one step's token mean, micro-batch by micro-batch, and remember every domain's part in it."""
        model.train()
        self._losses, self._counts = np.zeros((2, len(self.domains)))
        n = (inputs["labels"][:, 1:] != IGNORED).sum()
        total = torch.zeros((), device=self.args.device)
        for part in micro(inputs, size=self.micro_batch):
            loss = self.compute_loss(model, self._prepare_inputs(part), num_items_in_batch=n)
            self.accelerator.backward(loss)
            total += loss.detach()
        step = Step(self.steps[self.state.global_step], self._losses, self._counts.astype(np.int64))
        self._check(step, float(total))
        self.taken.append(step)
        self.adapter.after_backward(model)  # not in a callback: those come after clipping
        return total

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None  # noqa: ARG002
    ) -> Tensor:  # fmt: skip
        """Return a micro-batch's sum of losses over the step's trained tokens, plus the adapter's term in proportion."""
        labels = inputs["labels"][:, 1:]
        trained = labels != IGNORED
        logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False).logits
        losses = torch.nn.functional.cross_entropy(logits[:, :-1][trained].float(), labels[trained], reduction="none")
        domain = inputs["domain"][:, None].expand_as(labels)[trained].cpu().numpy()
        self._losses += np.bincount(domain, losses.detach().double().cpu().numpy(), minlength=len(self.domains))
        self._counts += np.bincount(domain, minlength=len(self.domains))
        loss: Tensor = losses.sum() / num_items_in_batch
        extra = self.adapter.extra_loss(model, inputs)
        return loss if extra is None else loss + extra * (len(losses) / num_items_in_batch)

    def floating_point_ops(self, inputs: Any) -> int:  # noqa: ARG002
        """Count nothing: the Trainer would walk all modules at every step for a figure that nobody reads."""
        return 0

    def _check(self, step: Step, loss: float) -> None:
        if not math.isfinite(loss):
            bad = sorted({self.domains[row.domain] for row in step.rows})
            ids = ", ".join(row.sample_id for row in step.rows[:16]) + (", ..." if len(step.rows) > 16 else "")
            what = f"the loss is {loss} in domains {', '.join(bad)}, samples {ids}"
            raise FaultError(what, where=f"step {self.state.global_step}", hint="lower learning_rate, or look at these samples")


class _AfterStep(TrainerCallback):  # type: ignore[misc]
    def __init__(self, adapter: Adapter, shown: Bar) -> None:
        self.adapter, self.shown = adapter, shown

    def on_optimizer_step(self, args: Any, state: Any, control: Any, *, model: Any, **_: Any) -> None:  # noqa: ARG002
        self.adapter.after_step(model)
        self.shown.advance()


def _one_step(items: Sequence[Sequence[Row]]) -> dict[str, Tensor]:
    return collate(items[0])
