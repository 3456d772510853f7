"""A probe finds known shares, says how sure it is, and loses no text in silence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from composer.errors import ModelError, SourceError, SpecError
from composer.tables import COMPLETION, read
from composer.types import KnowledgeDistribution
from probes.engines import Session
from probes.engines.kept import Kept
from probes.knowledge.judges.classifier import Classifier
from probes.knowledge.self_generation import JUDGEMENT, SelfGeneration
from tests.probes.knowledge.writing import DOMAINS, TRUTH, World, measure


def test_it_gives_a_distribution_whose_error_falls_with_the_samples(reference: pl.DataFrame, tmp_path: Path) -> None:
    spread = []
    for samples in (100, 1600):
        folder = tmp_path / str(samples)
        folder.mkdir()
        probe = SelfGeneration(samples=samples)
        found = probe.measure(World(), domains=DOMAINS, reference=reference, seed=1, folder=folder)
        assert sum(found.p) == pytest.approx(1)
        assert (found.domains, found.probe, found.model) == (DOMAINS, "self_generation", "")
        spread.append(np.array(found.stderr))
    assert spread[1] == pytest.approx(spread[0] / 4, rel=0.4)


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
        "completions.parquet", "judge.json", "judgements.parquet", "knowledge.json", "resamples.parquet",
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
        measure(Kept(broken, tmp_path / "part"), reference, tmp_path / "part", samples=900)
    assert measure(Kept(rest, tmp_path / "part"), reference, tmp_path / "part", samples=900) == expected
    assert len(whole.seeds) == len(set(whole.seeds)) == 4
    assert broken.seeds + rest.seeds == whole.seeds
    assert len(rest.prompts) == 400


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
