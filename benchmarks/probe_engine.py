"""Drawing texts for the knowledge probe: the engine ``vllm`` against bare ``LLM.generate``, and ``hf`` against one by one.

A small model is the hard case for vLLM: a step takes milliseconds, so whatever is done beside it weighs. Both sides have a
process of their own, the same prompts and the same seeds, and must give the same tokens; the starts are not counted, the texts
that both make of the tokens are. CPU seconds are those of all processes that have a part in a side. ``unseeded`` is
``LLM.generate`` without a seed for each prompt, whose tokens are not to be compared. Where vLLM is not installed its part is
left out, and the script says so.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from multiprocessing.connection import Connection
from operator import truediv
from pathlib import Path
from typing import Any

import psutil
from _harness import QUICK, Ratio, cpu_seconds, tell

from composer.spec import rng, seed_of
from composer.train import Base, pretrain
from composer.types import ModelRef
from probes.engines.hf import Hf
from probes.engines.vllm import Vllm

TURNS, HF_TURNS = (2, 2) if QUICK else (7, 3)
MANY, ONES, NEW = (64, 16, 24) if QUICK else (512, 32, 64)
SIZES = {"kv_cache_memory_bytes": 256 << 20, "max_num_seqs": 256, "max_num_batched_tokens": 2048}
Timed = tuple[float, float, list[tuple[int, ...]]]


def main() -> None:
    """Make a small model and draw from it in every way."""
    os.environ.update(Vllm()._environment(), TOKENIZERS_PARALLELISM="false")
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(Path(folder))
        ratios, speeds, equal = against_one_by_one(model)
        if find_spec("vllm") is None:
            print("vllm is not installed: its part is left out", file=sys.stderr)
        else:
            found, more, same = against_bare(model)
            ratios, speeds, equal = found + ratios, speeds | more, equal and same
    sizes = {"prompts": MANY, "prompts_one_by_one": ONES, "new_tokens": NEW}
    tell("probe_engine", ratios, equal=equal, sizes=sizes, costs={"tokens_per_second": speeds})


def make_model(folder: Path) -> str:
    """Pretrain a small Llama on a few words."""
    dice = rng(0, "benchmark", "probe_engine")
    words = ["law", "court", "holds", "that", "the", "fine", "of", "Varn", "is", "nine", "silver", "marks"]
    texts = [" ".join(words[i] for i in dice.integers(len(words), size=90)) for _ in range(200)]
    spec = Base(vocab=400, context=128, documents=200, weights={"law": 1.0}, threads=1)
    pretrain({"law": texts}, spec=spec, seed=0, folder=folder)
    return str(folder / "model")


def against_bare(model: str) -> tuple[list[Ratio], dict[str, float], bool]:
    """Compare tokens per second of the engine and of bare vLLM, both open, in turns."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve_bare, args=(model, there))
    process.start()
    there.close()
    sides = {"bare": "bare LLM.generate", "unseeded": "LLM.generate without seeds"}
    rates: dict[str, dict[str, list[float]]] = {of: {side: [] for side in ("vllm", *sides)} for of in ("second", "CPU second")}
    equal = True
    with Vllm(**SIZES).open(ModelRef(path=model)) as session:
        child = psutil.Process(session._child.pid)
        for turn in range(TURNS + 1):  # the first one warms up
            drawn = {"vllm": timed(partial(draw, session), beside=child)}
            for side in sides:
                here.send(side)
                drawn[side] = here.recv()
            equal = equal and drawn["vllm"][2] == drawn["bare"][2]
            for side, (wall, cpu, tokens) in drawn.items() if turn else ():
                n = sum(map(len, tokens))
                rates["second"][side].append(n / wall)
                rates["CPU second"][side].append(n / cpu)
                print(f"turn {turn}: {side} {n / wall:.0f} tokens/s, {n / cpu:.0f} tokens/CPU s", file=sys.stderr, flush=True)
    here.send(None)
    process.join()
    ratios = [
        Ratio(f"tokens per {of}, vllm over {what}", statistics.median(map(truediv, each["vllm"], each[side])), 0.95, "higher",
              TURNS)
        for side, what in sides.items() for of, each in rates.items()
    ]  # fmt: skip
    shown = {f"{side}, per {of}": round(statistics.median(found)) for of, each in rates.items() for side, found in each.items()}
    return ratios, shown, equal


def draw(session: Any) -> list[tuple[int, ...]]:
    """Draw by the engine."""
    return [made.ids for made in session.complete([[session.tokenizer.bos_token_id]] * MANY, max_new_tokens=NEW, seed=0)]


def serve_bare(model: str, ears: Connection) -> None:
    """Draw by vLLM as its documentation does it, as often as asked."""
    vllm: Any = import_module("vllm")
    llm = vllm.LLM(model=model, dtype="float32", enforce_eager=True, **SIZES)
    prompts = [{"prompt_token_ids": [llm.get_tokenizer().bos_token_id]}] * MANY
    while side := ears.recv():
        seeds = [seed_of(0, "complete", row) if side == "bare" else None for row in range(MANY)]

        def generate(seeds: list[int | None] = seeds) -> list[tuple[int, ...]]:
            params = [vllm.SamplingParams(temperature=1.0, max_tokens=NEW, seed=seed) for seed in seeds]
            return [tuple(made.outputs[0].token_ids) for made in llm.generate(prompts, params, use_tqdm=False)]

        ears.send(timed(generate))


def timed(work: Callable[[], list[tuple[int, ...]]], *, beside: psutil.Process | None = None) -> Timed:
    """Return the wall seconds of a call, its CPU seconds with those of a process beside this one, and what it drew."""
    cpu, wall = used(beside), time.perf_counter()
    drawn = work()
    return time.perf_counter() - wall, used(beside) - cpu, drawn


def used(beside: psutil.Process | None) -> float:
    """Return the CPU seconds of this process and of another."""
    times = beside.cpu_times() if beside else None
    return time.process_time() + (times.user + times.system if times else 0)


def against_one_by_one(model: str) -> tuple[list[Ratio], dict[str, float], bool]:
    """Compare the engine ``hf`` with transformers' generate, one prompt at a time; greedy, so that the tokens are the same."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    plain = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    with Hf().open(ModelRef(path=model)) as session:
        bos, end = session.tokenizer.bos_token_id, session.tokenizer.eos_token_id
        prompts = [[bos, 5 + i % 300] for i in range(ONES)]

        def one_by_one() -> list[tuple[int, ...]]:
            ids = (torch.tensor([prompt]) for prompt in prompts)
            made = (plain.generate(each, max_new_tokens=NEW, do_sample=False, pad_token_id=end) for each in ids)
            return [tuple(each[0, 2:].tolist()) for each in made]

        def in_batches() -> list[tuple[int, ...]]:
            return [made.ids for made in session.complete(prompts, max_new_tokens=NEW, temperature=0, seed=0)]

        ratios, equal = [], True
        for _ in range(HF_TURNS):
            theirs_s, theirs = cpu_seconds(one_by_one)
            ours_s, found = cpu_seconds(in_batches)
            equal = equal and theirs == found
            ratios.append(theirs_s / ours_s)
            print(f"hf {theirs_s / ours_s:.1f} times as fast as one by one", file=sys.stderr, flush=True)
    n_tokens = sum(map(len, found))
    speeds = {"hf": round(n_tokens / ours_s), "one_by_one": round(n_tokens / theirs_s)}
    name = "tokens per CPU second, hf over one by one"
    return [Ratio(name, statistics.median(ratios), 3, "higher", len(ratios))], speeds, equal


if __name__ == "__main__":
    main()
