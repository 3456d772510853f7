"""Training steps: ours against a bare torch loop and TRL's SFTTrainer on the same packed batches, and packed against padded.

A random Llama of 5.26 million parameters in float32 on one thread; a step is four full bins of 512 tokens in eight documents,
AdamW fused, clipped at 1, sdpa. All sides begin with the same weights and read the same tensors: TRL gets them from a collator
of ours, for its own way is one tensor row of all 2,048 tokens, whose mask is four times as large. Packed against padded are
both ours, on batches of 16 rows of one domain as long as real ones are. With ``--cuda`` the model has 0.9 thousand million
parameters, bins are of 4,096 tokens, all sides compute in bfloat16 (autocast), and the share of an H100's or H200's dense peak
is told beside the speed.

Every run is a process of its own (but in a hurry). Seconds are of the CPU, or of the wall on a GPU, from the end of the first
step to the end of the last, so that loading, encoding and what is made once do not count. The losses of all steps must be equal
to 1e-4 nats (0.03 in bfloat16). Without TRL, or in a hurry, that side is left out.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from _harness import DEVICE, QUICK, Ratio, alone, tell

from composer.encode import Encoding
from composer.progress import Silence, listener
from composer.spec import rng
from composer.tables import COMPOSITION, SAMPLE, TRACE, read
from composer.train import Train, train
from composer.train.batches import Row
from composer.train.isolated import isolated
from composer.train.layout import packed
from composer.types import ModelRef

CUDA = DEVICE == "cuda"
VOCAB, HIDDEN, INTERMEDIATE, LAYERS = (512, 64, 172, 2) if QUICK else (32_768, 2048, 5632, 16) if CUDA else (8192, 256, 688, 4)
HEADS = max(4, HIDDEN // 64)
LENGTH, BINS, STEPS, REPEATS = (64, 2, 3, 1) if QUICK else (4096, 4, 20, 1) if CUDA else (512, 4, 20, 3)
SECOND = "second" if CUDA else "CPU second"
CLOSE = 3e-2 if CUDA else 1e-4  # nats
ROWS, REAL_STEPS = 16, 3 if QUICK else 8
RATE, SEED = 1e-5 if CUDA else 1e-3, 11  # in bfloat16 larger steps part from one another
TASKS = Path(__file__).parents[2] / "shared/data/tasks"
Ran = tuple[float, list[float]]  # CPU seconds, and the loss of every step


def full_bins() -> list[int]:
    """Return lengths of documents, two of which fill a bin."""
    dice = rng(SEED, "benchmark", "bins")
    firsts = dice.integers(LENGTH // 16, LENGTH - LENGTH // 16, size=STEPS * BINS)
    return np.stack([firsts, LENGTH - firsts], axis=1).ravel().tolist()


def real_lengths() -> tuple[str, list[int]]:
    """Return lengths of rows as instruction data has them, and where they are from."""
    dice, n = rng(SEED, "benchmark", "lengths"), ROWS * REAL_STEPS
    if QUICK or not TASKS.is_dir():
        return "geometric", np.clip(dice.geometric(6 / LENGTH, size=n), 2, LENGTH).tolist()
    from composer.train.tokenizer import learn

    tables = [pl.read_parquet(path) for path in sorted(TASKS.glob("*.parquet"))]
    texts = [
        f"{row['instruction']}\n{row['input']}\n{row['output']}" for table in tables for row in table.iter_rows(named=True)
    ]
    tokenizer = learn(texts, vocab=VOCAB)
    chosen = [texts[i] for i in dice.permutation(len(texts))[:n]]
    return "shared/data/tasks", [min(len(ids), LENGTH) for ids in tokenizer(chosen)["input_ids"]]


def documents(lengths: Sequence[int]) -> list[list[int]]:
    """Return documents of the lengths, in which a word stands after another that is near it."""
    dice = rng(SEED, "benchmark", "words")
    return [(1 + np.cumsum(dice.geometric(0.2, size=n)) % (VOCAB - 1)).tolist() for n in lengths]


def write_model(folder: Path) -> None:
    """Write the model, and a tokenizer whose tokens are words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCAB)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0").save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=HIDDEN, intermediate_size=INTERMEDIATE, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=HEADS, max_position_embeddings=LENGTH, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    with isolated(SEED, threads=1):
        LlamaForCausalLM(config).save_pretrained(folder)


class Clock:
    """A listener to progress that notes the seconds at the end of every step."""

    def __init__(self) -> None:
        self.ticks: list[float] = []

    @contextmanager
    def bar(self, label: str, *, total: float | None, unit: str) -> Iterator[Any]:  # noqa: ARG002
        """Open a bar that ticks, where it is that of training."""
        yield self if label == "train" else Silence()

    def say(self, line: str) -> None:
        """Show nothing."""

    def advance(self, n: float = 1) -> None:  # noqa: ARG002
        """Note the time."""
        if CUDA:
            import torch

            torch.cuda.synchronize()
        self.ticks.append(time.perf_counter() if CUDA else time.process_time())

    def seconds(self) -> float:
        """Return the seconds between the first step's end and the last one's."""
        return self.ticks[-1] - self.ticks[0]


def ours(folder: Path, lengths: Sequence[int], *, rows: int, packing: int | None, **settings: Any) -> Ran:
    """Train as the pipeline does."""
    texts = [" ".join(f"w{i}" for i in ids) for ids in documents(lengths)]
    fields = {
        "sample_id": [str(i) for i in range(len(texts))], "source": "s", "domain": "d", "role": "target", "instruction_id": "",
        "messages": [[{"role": "assistant", "content": text}] for text in texts], "n_tokens": lengths, "license": "",
        "n_loss_tokens": [n - 1 for n in lengths],
    }  # fmt: skip
    samples = pl.DataFrame(fields, schema_overrides=dict(SAMPLE)).select(
        *(pl.col(name) if name in fields else pl.lit(None, kind).alias(name) for name, kind in SAMPLE.items())
    )
    n, kept = samples.height, [name for name in COMPOSITION if name in samples.columns]
    numbers = [pl.int_range(n).alias(name) for name in ("position", "rank", "row")]
    zeros = [pl.lit(0).alias(name) for name in ("phase", "repeat", "is_replay")]
    composition = samples.select(*numbers, *zeros, *kept).select(list(COMPOSITION)).cast(dict(COMPOSITION))
    spec = Train(
        batch_size=rows, learning_rate=RATE, lr_schedule="constant", warmup_ratio=0, packing=packing, device=DEVICE, threads=1,
        **settings,
    )  # fmt: skip
    clock = Clock()
    token = listener.set(clock)
    with tempfile.TemporaryDirectory() as out:
        given = {"model": ModelRef(path=str(folder)), "start": None, "spec": spec, "max_length": LENGTH, "seed": SEED}
        train(composition, samples, folder=Path(out), **given)
        losses = read(Path(out) / "trace.parquet", TRACE)["loss_nats"].to_list()
    listener.reset(token)
    return clock.seconds(), losses


def batches() -> list[dict[str, Any]]:
    """Return the tensors of every step."""
    rows = [Row.of(str(i), 0, Encoding(tuple(ids), (True,) * len(ids))) for i, ids in enumerate(documents(full_bins()))]
    steps = [packed(rows[i : i + 2 * BINS], length=LENGTH) for i in range(0, len(rows), 2 * BINS)]
    assert all(step["input_ids"].shape == (BINS, LENGTH) for step in steps)
    return [{name: step[name] for name in ("input_ids", "position_ids", "labels")} for step in steps]


def bare(folder: Path) -> Ran:
    """Train as one would by hand."""
    import torch
    from transformers import AutoModelForCausalLM

    clock, losses = Clock(), []
    with isolated(SEED, threads=1):
        model = AutoModelForCausalLM.from_pretrained(folder).train().to(DEVICE)
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0, fused=True)
        for batch in batches():
            ids, places, labels = (batch[name].to(DEVICE) for name in ("input_ids", "position_ids", "labels"))
            with torch.autocast(DEVICE, torch.bfloat16, enabled=CUDA):
                logits = model(input_ids=ids, position_ids=places, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            clock.advance()
    return clock.seconds(), losses


def trl(folder: Path) -> Ran:
    """Train with TRL."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    clock, losses, steps = Clock(), [], batches()

    class Watched(SFTTrainer):  # type: ignore[misc]
        def compute_loss(self, *args: Any, **named: Any) -> Any:
            loss = super().compute_loss(*args, **named)
            losses.append(loss.detach())
            return loss

    class Ticks(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.advance()

    with isolated(SEED, threads=1), tempfile.TemporaryDirectory() as out:
        args = SFTConfig(
            output_dir=out, per_device_train_batch_size=1, num_train_epochs=1, learning_rate=RATE, lr_scheduler_type="constant",
            max_grad_norm=1.0, optim="adamw_torch_fused", use_cpu=not CUDA, bf16=CUDA, activation_checkpointing=False,
            report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True, remove_unused_columns=False,
            train_sampling_strategy="sequential", dataset_kwargs={"skip_prepare_dataset": True},
        )  # fmt: skip
        trainer = Watched(
            model=AutoModelForCausalLM.from_pretrained(folder), args=args, callbacks=[Ticks()],
            processing_class=AutoTokenizer.from_pretrained(folder), data_collator=lambda items: steps[items[0]["input_ids"][0]],
            train_dataset=Dataset.from_dict({"input_ids": [[i] for i in range(len(steps))]}),
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return clock.seconds(), [float(loss) for loss in losses]


def flops_per_token() -> float:
    """Return the arithmetic of a token there and back: 6 for every weight of a matrix, and the attention within half a bin."""
    weights = LAYERS * (4 * HIDDEN**2 + 3 * HIDDEN * INTERMEDIATE) + VOCAB * HIDDEN
    return 6 * weights + 6 * LAYERS * HIDDEN * LENGTH


def measured(label: str, sides: dict[str, Callable[[], Ran]]) -> tuple[dict[str, list[float]], bool]:
    """Run the sides in turns, each in a fresh process; return their CPU seconds, and whether all losses were the same."""
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    equal = True
    for i in range(REPEATS):
        curves = []
        for side, work in sides.items():
            cpu, losses = work() if QUICK else alone(work, imports=("torch", "transformers"))[1]
            seconds[side].append(cpu)
            curves.append(losses)
            off = np.abs(np.subtract(losses, curves[0])).max()
            shown = f"{cpu:.2f} s, loss {losses[0]:.4f} to {losses[-1]:.4f}, off {off:.1e}"
            print(f"{label} {i + 1}: {side} {shown}", file=sys.stderr, flush=True)
        equal = equal and all(np.allclose(curve, curves[0], rtol=0, atol=CLOSE) for curve in curves)
    return seconds, equal


def main() -> None:
    """Make the model, run all sides, and tell their ratios."""
    source, lengths = real_lengths()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder)
        same = {"ours": partial(ours, folder, full_bins(), rows=2 * BINS, packing=LENGTH), "bare": partial(bare, folder)}
        if not QUICK and importlib.util.find_spec("trl"):
            same["trl"] = partial(trl, folder)
        layouts = {
            "packed": partial(ours, folder, lengths, rows=ROWS, packing=LENGTH),
            "padded": partial(ours, folder, lengths, rows=ROWS, packing=None, micro_batch=4 if CUDA else None),
        }
        steps, equal = measured("steps", same)
        real, also = measured("layout", layouts)

    def ratio(name: str, costs: dict[str, list[float]], ours: str, theirs: str, target: float) -> Ratio:
        values = [other / mine for mine, other in zip(costs[ours], costs[theirs], strict=True)]
        return Ratio(f"tokens per {SECOND}, {name}", statistics.median(values), target, "higher", len(values))

    ratios = [
        ratio("over a bare loop", steps, "ours", "bare", 0.97),
        ratio("packed over padded", real, "packed", "padded", 1.9),
    ]
    if "trl" in steps:
        ratios.insert(1, ratio("over TRL", steps, "ours", "trl", 1.5))
    n_real = sum(lengths[ROWS:])
    counts = {**dict.fromkeys(steps, BINS * LENGTH * (STEPS - 1)), **dict.fromkeys(real, n_real)}
    speed = {side: round(n / statistics.median({**steps, **real}[side])) for side, n in counts.items()}
    sizes = {
        "vocabulary": VOCAB, "hidden": HIDDEN, "layers": LAYERS, "bin": LENGTH, "bins": BINS, "steps": STEPS, "rows": ROWS,
        "steps of rows": REAL_STEPS, "lengths": source, "mean length": round(statistics.mean(lengths), 1),
    }  # fmt: skip
    costs: dict[str, Any] = {f"tokens per {SECOND}": speed}
    if CUDA:
        costs["share of 989 TFLOP/s"] = {side: round(speed[side] * flops_per_token() / 989e12, 3) for side in steps}
    tell("trainer", ratios, equal=equal and also, sizes=sizes, costs=costs)


if __name__ == "__main__":
    main()
