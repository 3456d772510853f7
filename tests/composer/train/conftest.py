"""A tiny base model made by `pretrain`, a tiny GPT-2 beside it, and conversations of two domains to train on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from composer.encode import Encoding, encode, load_tokenizer
from composer.spec import digest
from composer.tables import COMPOSITION, SAMPLE
from composer.train import Train, calibrate, train
from composer.train.pretrain import Base, pretrain
from composer.types import ModelRef

os.environ.setdefault("HF_HUB_OFFLINE", "1")

TINY = {"hidden": 64, "layers": 2, "heads": 2, "intermediate": 64, "vocab": 400, "context": 64, "threads": 1}
DOCUMENTS = {
    "law": [f"The court of district {i} heard case {i * 7} and the appeal was dismissed." for i in range(30)],
    "code": [f"def f{i}(x):\n    return x + {i * 3}  # adds {i * 3}" for i in range(30)],
}


@pytest.fixture(scope="session")
def documents() -> dict[str, list[str]]:
    return DOCUMENTS


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Base]:
    return lambda **fields: Base(**{**TINY, "weights": {"law": 0.25, "code": 0.75}, **fields})


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, tiny: Callable[..., Base]) -> ModelRef:
    folder = tmp_path_factory.mktemp("base")
    pretrain(DOCUMENTS, spec=tiny(documents=80), seed=1, folder=folder)
    return ModelRef(path=str(folder / "model"))


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory, base: ModelRef) -> ModelRef:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer, folder = load_tokenizer(base.path), tmp_path_factory.mktemp("gpt2")
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GPT2Config(vocab_size=len(tokenizer), n_embd=64, n_layer=2, n_head=2, n_positions=256, **special)
        GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return ModelRef(path=str(folder))


@pytest.fixture(scope="session")
def samples(base: ModelRef) -> pl.DataFrame:
    """Thirty conversations of law and thirty of code, counted as ingest counts them."""
    talks = []
    for i in range(30):
        talks.append(("law", [("user", f"Which case did district {i} hear?"), ("assistant", f"Case {i * 7}.")]))
        talks.append(("code", [("system", "Be brief."), ("user", f"Add {i}"), ("assistant", f"return x + {i}")]))
    messages = [[{"role": role, "content": text} for role, text in talk] for _, talk in talks]
    rows = []
    for (domain, _), talk, encoding in zip(
        talks, messages, encode(load_tokenizer(base.path), messages, max_length=64), strict=True
    ):
        assert isinstance(encoding, Encoding)
        rows.append({
            "sample_id": digest(talk), "source": domain, "domain": domain, "role": "target",
            "instruction_id": digest(talk[:-1]), "messages": talk, "n_tokens": len(encoding.ids),
            "n_loss_tokens": encoding.n_loss_tokens, "license": "unknown", "source_revision": "r", "extras": None,
        })  # fmt: skip
    return pl.DataFrame(rows, schema=SAMPLE)


@pytest.fixture(scope="session")
def composed() -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Rows of samples as a composition, in the order in which they come."""

    def compose(rows: pl.DataFrame) -> pl.DataFrame:
        n = rows.height
        return rows.select(
            pl.int_range(n, dtype=pl.UInt64).alias("position"), pl.int_range(n, dtype=pl.UInt32).alias("rank"),
            pl.int_range(n, dtype=pl.UInt32).alias("row"), "sample_id", "source", "domain",
            pl.lit(0, pl.UInt32).alias("phase"), pl.lit(0, pl.UInt32).alias("repeat"),
            pl.lit(False).alias("is_replay"), "n_tokens", "n_loss_tokens",
        ).cast(dict(COMPOSITION))  # fmt: skip

    return compose


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def fresh(base: ModelRef, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """LoRAs that change nothing yet, as a mixture needs them of every domain."""
    from composer.train.adapters.mola import Mola
    from composer.train.model import load

    folder, expert = tmp_path_factory.mktemp("fresh"), Mola().expert
    for i, domain in enumerate(DOCUMENTS):
        expert.save(expert.attach(load(base, device="cpu")[0], previous=None, seed=i), None, folder / domain)
    return {f"experts/{domain}": folder / domain for domain in DOCUMENTS}


@pytest.fixture
def run(
    samples: pl.DataFrame, composed: Callable[[pl.DataFrame], pl.DataFrame], base: ModelRef,
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest,
) -> Callable[..., dict[str, Any]]:  # fmt: skip
    """Train; what the adapter needs is made before, if there is no start that has it."""

    def run(
        folder: Path, *, model: ModelRef = base, start: Path | None = None, rows: pl.DataFrame = samples, **fields: Any
    ) -> Any:
        spec = Train(**{"batch_size": 8, "threads": 1, "device": "cpu", **fields})
        how: dict[str, Any] = {"model": model, "start": start, "spec": spec, "max_length": 64, "seed": 7}
        needs, given = () if start else spec.adapter.needs, {}
        if "mask" in needs:
            given["mask"] = tmp_path_factory.mktemp("mask")
            calibrate(composed(rows), rows, folder=given["mask"], **how)
        if "experts" in needs:
            given |= request.getfixturevalue("fresh")
        return train(composed(rows), samples, folder=folder, given=given, **how)

    return run
