"""A probe finds known shares, says how sure it is, and loses no text in silence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from composer.errors import ModelError, SourceError, SpecError
from composer.tables import COMPLETION, read
from composer.types import KnowledgeDistribution
from probes.engines import Completion, Session, TokenScores
from probes.knowledge import KNOWLEDGE
from probes.knowledge.judges.classifier import Classifier
from probes.knowledge.self_generation import JUDGEMENT, SelfGeneration, _estimate

DOMAINS = ("law", "medicine", "code")
TRUTH = (0.6, 0.3, 0.1)
WORDS = {"law": "court judge clause", "medicine": "patient dose fever", "code": "function loop array"}


def text(domain: str, random: np.random.Generator) -> str:
    return " ".join(random.choice(WORDS[domain].split(), size=8))


class World:
    """A session that writes texts of known domains and counts what it is asked."""

    def __init__(self, *, bos: int | None = 0, eos: int | None = 1, empty: float = 0.0, breaks_after: int = 10**9) -> None:
        self.tokenizer: Any = SimpleNamespace(bos_token_id=bos, eos_token_id=eos)
        self.empty, self.breaks_after = empty, breaks_after
        self.prompts: list[tuple[int, ...]] = []
        self.seeds: list[int] = []

    def complete(
        self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, temperature: float = 1.0, seed: int
    ) -> list[Completion]:
        assert (max_new_tokens, temperature) == (128, 1.0)
        if len(self.seeds) == self.breaks_after:
            raise KeyboardInterrupt
        self.prompts += [tuple(prompt) for prompt in prompts]
        self.seeds.append(seed)
        random = np.random.default_rng(seed)
        words = [" \n" if random.random() < self.empty else text(DOMAINS[random.choice(3, p=TRUTH)], random) for _ in prompts]
        return [Completion((5,) * 8, word, True) for word in words]

    def score(self, sequences: Sequence[Sequence[int]]) -> list[TokenScores]:
        raise NotImplementedError


@pytest.fixture(scope="module")
def reference() -> pl.DataFrame:
    random = np.random.default_rng(0)
    rows = [(domain, text(domain, random)) for domain in DOMAINS for _ in range(30)]
    return pl.DataFrame(rows, schema=["domain", "text"], orient="row")


def measure(world: Session, reference: pl.DataFrame, folder: Path, *, seed: int = 0, **fields: Any) -> KnowledgeDistribution:
    return SelfGeneration(**fields).measure(world, domains=DOMAINS, reference=reference, seed=seed, folder=folder)


@pytest.mark.parametrize("word", sorted(KNOWLEDGE))
def test_a_member_gives_a_distribution_whose_error_falls_with_the_samples(
    word: str, reference: pl.DataFrame, tmp_path: Path
) -> None:
    spread = []
    for samples in (100, 1600):
        folder = tmp_path / str(samples)
        folder.mkdir()
        probe = KNOWLEDGE[word](samples=samples)
        found = probe.measure(World(), domains=DOMAINS, reference=reference, seed=1, folder=folder)
        assert sum(found.p) == pytest.approx(1)
        assert (found.domains, found.probe, found.model) == (DOMAINS, word, "")
        spread.append(np.array(found.stderr))
    assert spread[1] == pytest.approx(spread[0] / 4, rel=0.4)


def test_counted_labels_and_certain_probabilities_give_the_same_shares() -> None:
    labels = np.random.default_rng(3).choice(3, p=TRUTH, size=250)
    judge: Any = SimpleNamespace(accuracy=1.0, shares=lambda mean: mean)
    rounds = np.zeros(250, dtype=int)
    found = _estimate(judge, np.eye(3)[labels], rounds, domains=DOMAINS, seed=0, rejected=0, probe="self_generation")
    assert found.p == pytest.approx(np.bincount(labels, minlength=3) / 250, abs=1e-15)


def test_known_shares_are_found_within_the_interval(reference: pl.DataFrame, tmp_path: Path) -> None:
    found = measure(World(), reference, tmp_path, samples=1000)
    assert all(low < share < high for low, share, high in zip(found.low, TRUTH, found.high, strict=True))
    assert all(low < share < high for low, share, high in zip(found.low, found.p, found.high, strict=True))
    # an easy judge is as good as the labels, whose share has the binomial standard error
    assert found.stderr == pytest.approx([np.sqrt(p * (1 - p) / 1000) for p in TRUTH], rel=0.15)
    assert (found.n, found.rejected) == (1000, 0)
    assert found.accuracy is not None
    assert found.accuracy > 0.95


def test_the_interval_covers_the_truth_about_as_often_as_it_says(reference: pl.DataFrame, tmp_path: Path) -> None:
    covered = []
    for seed in range(12):
        folder = tmp_path / str(seed)
        folder.mkdir()
        found = measure(World(), reference, folder, seed=seed, samples=200)
        covered += [low <= share <= high for low, share, high in zip(found.low, TRUTH, found.high, strict=True)]
    assert 0.85 <= np.mean(covered) <= 1


def test_rounds_are_averaged_after_their_own_averages(reference: pl.DataFrame, tmp_path: Path) -> None:
    world = World(empty=0.3)
    found = measure(world, reference, tmp_path, samples=300, rounds=3)
    completions = read(tmp_path / "completions.parquet", COMPLETION)
    judgements = read(tmp_path / "judgements.parquet", JUDGEMENT)
    assert completions["sample"].to_list() == list(range(900))
    assert found.n + found.rejected == 900
    assert found.rejected == (completions["text"] == " \n").sum() > 200
    assert judgements.height == found.n * 3
    rounds = judgements.group_by(pl.col("sample") // 300, "domain").agg(pl.col("probability").mean())
    means = dict(rounds.group_by("domain").agg(pl.col("probability").mean()).iter_rows())
    assert found.p == pytest.approx([means[domain] for domain in DOMAINS])


def test_the_record_lies_in_the_folder(reference: pl.DataFrame, tmp_path: Path) -> None:
    found = measure(World(), reference, tmp_path, samples=260)
    assert KnowledgeDistribution(**json.loads((tmp_path / "knowledge.json").read_text())) == found
    judge = json.loads((tmp_path / "judge.json").read_text())
    assert judge["accuracy"] == found.accuracy
    assert np.array(judge["confusion"]).sum(axis=0) == pytest.approx(1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "completions.parquet", "judge.json", "judgements.parquet", "knowledge.json",
    ]  # fmt: skip


def test_the_same_seed_gives_the_same_bytes(reference: pl.DataFrame, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder, seed in zip(folders, (1, 1, 2), strict=True):
        folder.mkdir()
        measure(World(), reference.sample(fraction=1, shuffle=True, seed=seed), folder, seed=seed, samples=260)
    one, same, other = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in folders)
    assert one == same
    assert one["completions.parquet"] != other["completions.parquet"]


def test_a_rerun_asks_only_for_what_is_missing(reference: pl.DataFrame, tmp_path: Path) -> None:
    whole, broken, rest = World(), World(breaks_after=2), World()
    (tmp_path / "whole").mkdir()
    expected = measure(whole, reference, tmp_path / "whole", samples=900)
    (tmp_path / "part").mkdir()
    with pytest.raises(KeyboardInterrupt):
        measure(broken, reference, tmp_path / "part", samples=900)
    assert measure(rest, reference, tmp_path / "part", samples=900) == expected
    assert len(whole.seeds) == len(set(whole.seeds)) == 4
    assert broken.seeds + rest.seeds == whole.seeds
    assert len(rest.prompts) == 400


def test_shards_of_another_question_are_not_taken(reference: pl.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        measure(World(breaks_after=1), reference, tmp_path, seed=1, samples=300)
    world = World()
    measure(world, reference, tmp_path, seed=2, samples=300)
    assert len(world.prompts) == 300


@pytest.mark.parametrize(("bos", "eos", "first"), [(7, 1, 7), (0, 1, 0), (None, 3, 3)])
def test_the_prompt_is_the_first_token_alone(
    bos: int | None, eos: int, first: int, reference: pl.DataFrame, tmp_path: Path
) -> None:
    world = World(bos=bos, eos=eos)
    measure(world, reference, tmp_path, samples=3)
    assert world.prompts == [(first,)] * 3


def test_a_correcting_judge_corrects_every_resample(reference: pl.DataFrame, tmp_path: Path) -> None:
    found = measure(World(), reference, tmp_path, samples=500, judge={"name": "classifier", "correct": True})
    assert sum(found.p) == pytest.approx(1)
    assert found.p == pytest.approx(TRUTH, abs=0.08)
    assert all(0 < error < 0.05 for error in found.stderr)


def test_what_cannot_be_measured_is_refused(reference: pl.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="neither a beginning-of-text nor an end-of-text token"):
        measure(World(bos=None, eos=None), reference, tmp_path, samples=3)
    with pytest.raises(ModelError, match="no text that can be judged; got 3 empty texts"):
        measure(World(empty=1.0), reference, tmp_path, samples=3)
    with pytest.raises(SourceError, match="domain code: too few reference texts"):
        measure(World(), reference.filter(pl.col("domain") != "code"), tmp_path, samples=3)
    with pytest.raises(SpecError, match=r"judge.name: unknown judge 'clasifier'; did you mean 'classifier'"):
        SelfGeneration(judge="clasifier")
    with pytest.raises(SpecError, match="temperature: input should be greater than 0"):
        SelfGeneration(temperature=0)


def test_a_recipe_names_the_judge_by_word() -> None:
    assert SelfGeneration(judge="classifier").judge == SelfGeneration().judge == Classifier()
    assert SelfGeneration().identity()["judge"]["correct"] is False


def test_a_real_session_is_measured(session: Session, reference: pl.DataFrame, tmp_path: Path) -> None:
    found = SelfGeneration(samples=6, max_new_tokens=8).measure(
        session, domains=DOMAINS, reference=reference, seed=0, folder=tmp_path
    )
    assert found.n + found.rejected == 6
    assert read(tmp_path / "completions.parquet", COMPLETION)["n_tokens"].max() <= 8
