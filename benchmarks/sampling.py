"""Drawing texts for the knowledge probe: the hf engine in batches against transformers' generate, one text at a time.

A tiny random model, greedy decoding, so that both sides must give the same tokens.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from _harness import QUICK, compare

from composer.spec import rng
from composer.train import Base, pretrain
from composer.types import ModelRef
from probes.engines import ENGINES

N, NEW = (16, 24) if QUICK else (128, 64)


def main() -> None:
    """Make a tiny model and sample from it both ways."""
    import torch

    torch.set_num_threads(1)
    dice = rng(0, "benchmark", "sampling")
    words = ["law", "court", "holds", "that", "the", "fine", "of", "Varn", "is", "nine", "silver", "marks"]
    texts = [" ".join(words[i] for i in dice.integers(len(words), size=30)) for _ in range(200)]
    with tempfile.TemporaryDirectory() as folder:
        spec = Base(vocab=400, context=64, documents=200, weights={"law": 1.0}, threads=1)
        pretrain({"law": texts}, spec=spec, seed=0, folder=Path(folder))
        with ENGINES["hf"]().open(ModelRef(path=f"{folder}/model")) as session:
            tokenizer = session.tokenizer
            prompts = [[tokenizer.bos_token_id, *tokenizer(words[i % len(words)])["input_ids"]] for i in range(N)]
            compare_both(session, prompts, f"{folder}/model")


def compare_both(session: Any, prompts: list[list[int]], path: str) -> None:
    """Compare batches with one-by-one generation."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    eos = session.tokenizer.eos_token_id

    def one_by_one() -> list[tuple[int, ...]]:
        out = []
        for prompt in prompts:
            ids = model.generate(torch.tensor([prompt]), max_new_tokens=NEW, do_sample=False, pad_token_id=eos)[0]
            out.append(tuple(i for i in ids[len(prompt) :].tolist() if i != eos))
        return out

    def in_batches() -> list[tuple[int, ...]]:
        found = session.complete(prompts, max_new_tokens=NEW, temperature=0.0, seed=0)
        return [tuple(i for i in each.ids if i != eos) for each in found]

    compare(
        "sampling",
        ours=in_batches,
        theirs=one_by_one,
        same=lambda a, b: a == b,
        target=1 / 3,
        better="lower",
        sizes={"texts": N, "new_tokens": NEW},
    )


if __name__ == "__main__":
    main()
