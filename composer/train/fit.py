"""One training by the Trainer of transformers: its arguments, its progress, and going on from a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from composer.progress import bar, say
from composer.train.checkpoint import NAME, latest
from composer.train.order import Order
from composer.train.shards import own_seed, rank, share_out

if TYPE_CHECKING:
    from composer.train.steering import Watch
    from composer.train.train import Train
    from composer.train.trainer import Step


class Fitted(NamedTuple):
    """A training's steps, and the bytes of the optimiser's state in this process."""

    steps: list[Step]
    optimizer_bytes: int


SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
ASIDE = ".trainer"


def fit(
    network: Any, order: Order, domains: Sequence[str], *, spec: Train, device: str, seed: int, folder: Path,
    watch: Watch | None = None,
) -> Fitted:  # fmt: skip
    """Train a module on the steps of an order, from the last checkpoint in the folder if there is one.

    The checkpoint stays in the folder's ``.trainer`` until whoever called has kept the result.
    """
    from composer.train.trainer import ComposerTrainer

    aside = folder / ASIDE
    args = _arguments(network, spec=spec, n_steps=order.n_steps, device=device, seed=seed, folder=aside)
    if spec.shard and rank() is not None:
        share_out(network, device=device)
    if spec.compile:
        network.compile(dynamic=True)
    with bar("train", total=order.n_steps, unit="steps") as shown:
        trainer = ComposerTrainer(
            model=network, args=args, order=order, domains=domains, adapter=spec.adapter, micro_batch=spec.micro_batch,
            packing=spec.packing, shown=shown, watch=watch,
        )  # fmt: skip
        left = latest(aside, device=args.device)
        if left is not None:
            say(f"training goes on after step {left.name.removeprefix(NAME)}, from the checkpoint in {aside}")
        trainer.train(resume_from_checkpoint=None if left is None else str(left))
        if watch is not None:
            watch.before(trainer)  # what comes after the last step
    return Fitted(trainer.taken, trainer.optimizer_bytes())


def _arguments(network: Any, *, spec: Train, n_steps: int, device: str, seed: int, folder: Path) -> Any:
    from transformers import TrainingArguments

    precision = ("bfloat16" if device == "cuda" else "float32") if spec.precision == "auto" else spec.precision
    known = TrainingArguments.__dataclass_fields__
    checkpointing = f"{'activation' if 'activation_checkpointing' in known else 'gradient'}_checkpointing"  # its name of late
    args = TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=1, num_train_epochs=1, train_sampling_strategy="sequential",
        learning_rate=spec.learning_rate, lr_scheduler_type=SCHEDULES[spec.lr_schedule],
        warmup_steps=math.ceil(spec.warmup_ratio * n_steps), weight_decay=spec.weight_decay, max_grad_norm=spec.max_grad_norm,
        optim="adamw_torch_fused", seed=own_seed(seed), use_cpu=device == "cpu", bf16=precision == "bfloat16",
        save_strategy="steps", save_steps=spec.checkpoint_every, report_to=list(spec.report_to) or "none",
        logging_strategy="steps" if spec.report_to else "no",
        logging_steps=1, logging_nan_inf_filter=False, disable_tqdm=True, remove_unused_columns=False,
        dataloader_pin_memory=device == "cuda",
        **{checkpointing: spec.gradient_checkpointing, f"{checkpointing}_kwargs": {"use_reentrant": False}},
        use_cache=network.config.use_cache,  # else the Trainer writes False into the config that is saved
    )  # fmt: skip
    args._n_gpu = min(args.n_gpu, 1)  # several GPUs would become DataParallel, which splits a step's exact token mean
    return args
