"""The Trainer of transformers, held to exact token means, the order of its steps and an account of every domain's loss.

One item of its data set is the number of one optimiser step, so that it never shuffles, groups or drops a row. The rows of a
step are asked for when the step is taken: nothing is fetched ahead of weights that may move. Every process asks for all rows of
a step and takes its part of them, micro-batches are cut from that part, and every token of the step weighs the same, however it
is cut and shared out. Import this module only to train; it loads transformers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from composer.errors import FaultError
from composer.progress import Bar
from composer.train import checkpoint, shards
from composer.train.adapters import Adapter
from composer.train.batches import Row
from composer.train.layout import IGNORED, domain_of_tokens, micro, packed, padded, token_losses
from composer.train.order import Order
from composer.train.steering import Watch
from composer.train.trace import series

if TYPE_CHECKING:
    from torch import Tensor

_NO_MEMORY = "can't allocate memory"  # what torch says where a CPU's memory ends


@dataclass(frozen=True)
class Step:
    """What one optimiser step saw, over all processes: ``n_rows`` rows of ``n_tokens`` tokens, trained or not.

    ``losses`` in nats and ``counts`` of trained tokens are sums, of shape (domains,).
    """

    n_rows: int
    n_tokens: int
    losses: np.ndarray
    counts: np.ndarray

    @property
    def loss(self) -> float:
        """The token mean in nats."""
        return float(self.losses.sum() / self.counts.sum())


class ComposerTrainer(Trainer):  # type: ignore[misc]
    """Train a module on the steps of an order.

    Parameters
    ----------
    model
        What the adapter attached.
    args
        Arguments whose batch size is one item, that is, one step.
    order
        Asked for the rows of every optimiser step.
    domains
        Names of the domains that the rows count.
    adapter
        Asked at every step for its share in loss, gradients and parameters.
    micro_batch
        Rows, or bins, of one forward pass; all that a process has of a step when absent.
    packing
        Tokens of a bin; rows are padded when absent.
    shown
        The progress bar.
    watch
        Asked before every step, for what the next one is to know.
    """

    def __init__(
        self, *, model: Any, args: TrainingArguments, order: Order, domains: Sequence[str],
        adapter: Adapter, micro_batch: int | None, packing: int | None, shown: Bar, watch: Watch | None = None,
    ) -> None:  # fmt: skip
        numbers = range(order.n_steps * args.world_size)  # shared out among the processes
        super().__init__(
            model=model, args=args, train_dataset=numbers, data_collator=_number, callbacks=[_AfterStep(adapter, shown)]
        )
        self.remove_callback(PrinterCallback)  # standard output belongs to whoever runs the pipeline
        if shards.is_shared_out(model) or adapter.exchanges:
            self.is_distributed_loading_by_transformers = True  # the Trainer's word for: do not wrap it in DDP
        self.order, self.watch, self.domains, self.adapter = order, watch, domains, adapter
        self.micro_batch, self.packing = micro_batch, packing
        self.taken: list[Step] = []

    def training_step(self, model: Any, inputs: dict[str, Tensor], num_items_in_batch: Any = None) -> Tensor:  # noqa: ARG002
        """Take the gradient of one step's token mean, micro-batch by micro-batch, and remember every domain's part in it."""
        if self.watch is not None:
            self.watch.before(self)
        model.train()
        rows = self.order.take()
        mine = rows[self.args.process_index :: self.args.world_size] or rows[:1]
        self._losses, self._counts = np.zeros((2, len(self.domains)))
        self._rows, batch = rows, self.laid_out(mine)
        if len(rows) <= self.args.process_index:
            batch["labels"].fill_(IGNORED)  # a process without a row goes through the motions with one that counts nothing
        n = sum(row.n_loss_tokens for row in rows)
        total = torch.zeros((), device=self.args.device)
        for part, last in shards.evened(micro(batch, size=self.micro_batch), device=self.args.device):
            with self._memory_that_suffices(), shards.exchange(model, last=last):
                loss = self.compute_loss(model, self._prepare_inputs(part), num_items_in_batch=n)
                self.accelerator.backward(loss)
            total += loss.detach()
        self._remember(float(total))
        self.adapter.after_backward(self.model)  # not in a callback: those come after clipping
        return total

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None  # noqa: ARG002
    ) -> Tensor:  # fmt: skip
        """Return a micro-batch's sum of losses over the step's trained tokens, plus the adapter's term in proportion.

        Gradients are averaged over the processes, so a process counts its part as many times as there are processes.
        """
        self.adapter.before_forward(self.model, inputs)
        losses, domain = token_losses(model, inputs), domain_of_tokens(inputs)
        self._losses += np.bincount(domain, losses.detach().double().cpu().numpy(), minlength=len(self.domains))
        self._counts += np.bincount(domain, minlength=len(self.domains))
        share = self.args.world_size / num_items_in_batch
        loss: Tensor = losses.sum() * share
        extra = self.adapter.extra_loss(self.model, inputs)
        return loss if extra is None else loss + extra * (len(losses) * share)

    def create_optimizer(self, model: Any = None) -> Any:
        """Return the Trainer's optimiser over what the adapter lets it move."""
        with self.adapter.optimising(self.model):
            return super().create_optimizer(model)

    def _sync_replicated_trainable_parameters(self, model: Any) -> None:
        with self.adapter.optimising(self.model):  # weights that are not the optimiser's get no hook of the Trainer
            super()._sync_replicated_trainable_parameters(model)

    def laid_out(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Return rows as the tensors of a batch."""
        return padded(rows) if self.packing is None else packed(rows, length=self.packing)

    def summed(self, values: np.ndarray) -> np.ndarray:
        """Return the sums of float64 values over all processes."""
        if self.args.world_size == 1:
            return values
        sums = torch.tensor(values, device=self.args.device)
        torch.distributed.all_reduce(sums)
        return sums.cpu().numpy()

    def optimizer_bytes(self) -> int:
        """Return what the optimiser remembers of this process's parameters, such as the moments of AdamW."""
        values = [value for state in self.optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
        return sum((value.to_local() if hasattr(value, "to_local") else value).nbytes for value in values)

    def floating_point_ops(self, inputs: Any) -> int:  # noqa: ARG002
        """Count nothing: the Trainer would walk all modules at every step for a figure that nobody reads."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log with the Trainer's own figures the loss and the share of every domain in the last step."""
        if self.taken and "loss" in logs:
            last = self.taken[-1]
            logs |= series("loss", self.domains, last.losses / np.where(last.counts, last.counts, np.nan))
            logs |= series("share", self.domains, last.counts / last.counts.sum())
        super().log(logs, start_time)

    def _remember(self, loss: float) -> None:
        losses, counts = self.summed(np.stack([self._losses, self._counts]))
        if not (math.isfinite(loss) and np.isfinite(losses).all()):
            loss = loss if not math.isfinite(loss) else float(losses.sum())  # another process's loss may be the bad one
            bad = sorted({self.domains[row.domain] for row in self._rows})
            raise self._fault(f"the loss is {loss} in domains {', '.join(bad)}, samples {self._ids()}", "look at these samples")
        n_tokens = sum(row.n_tokens for row in self._rows)
        self.taken.append(Step(len(self._rows), n_tokens, losses, counts.astype(np.int64)))

    def _clip_grad_norm(self, model: Any) -> Any:
        """Clip as the Trainer does, and stop at gradients that are no numbers: the optimiser would keep them for ever."""
        norm = super()._clip_grad_norm(model)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        if not math.isfinite(float(norm)):
            raise self._fault(f"the gradient's norm is {float(norm)}, samples {self._ids()}", "look at these samples")
        return norm

    @contextmanager
    def _memory_that_suffices(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            if not isinstance(error, torch.OutOfMemoryError) and _NO_MEMORY not in str(error):
                raise
            longest = max(self._rows, key=lambda row: row.n_tokens)
            what = f"the memory does not suffice, the longest sample is {longest.sample_id} of {self.domains[longest.domain]}"
            where, hint = f"step {self.state.global_step}", "set train.micro_batch, or lower it"
            raise FaultError(what, where=where, got=f"{longest.n_tokens} tokens", hint=hint) from None

    def _fault(self, what: str, way_out: str) -> FaultError:
        return FaultError(what, where=f"step {self.state.global_step}", hint=f"lower learning_rate, or {way_out}")

    def _ids(self) -> str:
        return ", ".join(row.sample_id for row in self._rows[:16]) + (", ..." if len(self._rows) > 16 else "")

    # What the Trainer pickles goes as safetensors and JSON, and a checkpoint is whole or is not there.

    def _save_checkpoint(self, model: Any, trial: Any) -> None:  # noqa: ARG002
        if self.state.global_step < self.state.max_steps:  # the end is saved as the result
            checkpoint.write(self, Path(self.args.output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:  # noqa: ARG002
        checkpoint.restore_weights(self, Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint_folder: str | None) -> None:
        if checkpoint_folder is not None:
            checkpoint.restore_optimizer(self, Path(checkpoint_folder))

    def _load_rng_state(self, checkpoint_folder: str | None) -> None:
        if checkpoint_folder is not None:
            checkpoint.restore_chance(self, Path(checkpoint_folder))

    def standing(self) -> dict[str, Any]:
        """Return where the order and the watch stand, as plain JSON."""
        return {"order": self.order.state(), "watch": None if self.watch is None else self.watch.state()}

    def go_on_from(self, state: Mapping[str, Any], taken: Sequence[Step]) -> None:
        """Go on where both stood, with the steps that were taken."""
        self.order.restore(state["order"])
        if self.watch is not None:
            self.watch.restore(state["watch"])
        self.taken = list(taken)


class _AfterStep(TrainerCallback):  # type: ignore[misc]
    def __init__(self, adapter: Adapter, shown: Bar) -> None:
        self.adapter, self.shown = adapter, shown

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        if state.global_step:
            self.shown.advance(state.global_step)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, *, model: Any, **_: Any) -> None:  # noqa: ARG002
        self.adapter.after_step(model)
        self.shown.advance()


def _number(items: Sequence[int]) -> dict[str, Tensor]:
    return {"step": torch.tensor(items)}
