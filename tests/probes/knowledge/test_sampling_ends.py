"""What ends the sampling, what the result says of it, and that nothing is drawn twice or lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from composer.errors import FaultError, SpecError
from composer.tables import COMPLETION, read
from composer.types import KnowledgeDistribution
from probes.engines.kept import Kept
from probes.knowledge.bootstrap import RESAMPLES, read_resamples
from probes.knowledge.judges.classifier import FittedClassifier
from probes.knowledge.self_generation import JUDGEMENT, NOTE, SelfGeneration
from tests.probes.knowledge.writing import DOMAINS, World, measure


def test_the_result_says_what_was_drawn_and_how_it_began_and_ended(
    reference: pl.DataFrame, tmp_path: Path, said: list[str]
) -> None:
    found = measure(World(longest=20), reference, tmp_path, samples=300)
    lengths = read(tmp_path / "completions.parquet", COMPLETION)["n_tokens"]
    assert (found.n_tokens, found.stopped, found.begun_with) == (lengths.sum(), "samples", "bos_token <s>")
    assert found.note == NOTE
    assert found.judge.startswith("classifier ")
    assert any(line.startswith(f"sampled 300 texts, {lengths.sum():,} tokens, in ") for line in said)
    resamples = read_resamples(tmp_path / RESAMPLES, DOMAINS)
    assert resamples.std(axis=0, ddof=1) == pytest.approx(found.stderr)
    assert found.low == pytest.approx(np.quantile(resamples, 0.025, axis=0))


def test_a_result_of_an_older_version_is_read() -> None:
    fields = {"domains": ["a"], "p": [1.0], "stderr": [0.0], "low": [1.0], "high": [1.0], "n": 3, "rejected": 1,
              "accuracy": 0.9, "model": "", "probe": "self_generation"}  # fmt: skip
    found = KnowledgeDistribution(**fields)
    assert (found.stopped, found.begun_with, found.n_tokens, found.note, found.low_with_judge) == ("", "", 0, "", None)


def test_without_a_beginning_the_end_token_begins_and_is_named(
    reference: pl.DataFrame, tmp_path: Path, said: list[str]
) -> None:
    assert measure(World(bos=None), reference, tmp_path, samples=3).begun_with == "eos_token </s>"
    assert any("no beginning-of-text token; every text begins with its end-of-text token: eos_token </s>" in t for t in said)


def test_a_width_ends_the_sampling_at_the_first_shard_that_is_narrow_enough(reference: pl.DataFrame, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("all", "narrow")]
    for folder in folders:
        folder.mkdir()
    world = World()
    every = measure(World(), reference, folders[0], samples=3000)
    found = measure(world, reference, folders[1], samples=3000, width=0.07)
    widths = np.array(found.high) - np.array(found.low)
    assert found.stopped == "width"
    assert 0.05 < widths.max() < 0.07
    assert len(world.prompts) == found.n in (750, 1000)  # 4 * 1.96^2 * 0.24 / 0.07^2 = 753
    before = np.sqrt(found.n / (found.n - 250)) * widths
    assert before.max() > 0.066, "a shard earlier it was hardly narrow enough"
    assert every.stopped == "samples"
    texts, most = (read(folder / "completions.parquet", COMPLETION) for folder in folders[::-1])
    assert texts.equals(most.head(found.n)), "when to stop decides on no text"


def test_a_width_that_is_not_reached_ends_with_the_samples(reference: pl.DataFrame, tmp_path: Path) -> None:
    found = measure(World(), reference, tmp_path, samples=100, shard=40, width=0.01)
    assert (found.stopped, found.n) == ("samples", 100)


def test_a_round_that_a_width_cuts_short_counts_by_its_texts(reference: pl.DataFrame, tmp_path: Path) -> None:
    found = measure(World(), reference, tmp_path, samples=400, rounds=9, shard=100, width=0.09)
    assert found.stopped == "width"
    assert 400 < found.n < 3600
    assert found.n % 400 != 0, "the case is one of a round cut short"
    shares = read(tmp_path / "judgements.parquet", JUDGEMENT).group_by("domain").agg(pl.col("probability").mean())
    assert found.p == pytest.approx([dict(shares.iter_rows())[domain] for domain in DOMAINS])


@pytest.mark.parametrize("budget", [128, 1000, 5000, 30_000])
def test_a_budget_of_tokens_is_used_and_never_passed(budget: int, reference: pl.DataFrame, tmp_path: Path) -> None:
    world = World(longest=128)
    found = measure(world, reference, tmp_path, samples=2000, shard=100, max_tokens=budget)
    assert found.stopped == "tokens"
    assert budget - 128 < found.n_tokens <= budget
    assert found.n == len(world.prompts)


def test_texts_are_as_long_under_a_budget_as_without(reference: pl.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    measure(World(longest=128), reference, tmp_path / "a", samples=200, shard=50)
    measure(World(longest=128), reference, tmp_path / "b", samples=200, shard=50, max_tokens=8_000)
    free, bound = (read(tmp_path / name / "completions.parquet", COMPLETION) for name in "ab")
    assert bound.head(50).equals(free.head(50))
    assert bound.height < free.height


def test_a_budget_for_less_than_one_text_is_refused() -> None:
    with pytest.raises(SpecError, match=r"max_tokens: the budget does not allow one text; expected at least .* 64; got 63"):
        SelfGeneration(max_tokens=63, max_new_tokens=64)
    with pytest.raises(SpecError, match="width: input should be less than 1"):
        SelfGeneration(width=1.0)


def test_a_domain_that_no_text_fell_to_is_named(reference: pl.DataFrame, tmp_path: Path, said: list[str]) -> None:
    found = measure(World(shares=(0.5, 0.5, 0.0)), reference, tmp_path, samples=50)
    line = "None of the 50 texts was judged to be of code: what share there is, is doubt."
    assert line in said
    assert found.note == f"{NOTE} {line}"


def test_judges_of_other_reference_texts_widen_the_second_interval_alone(
    reference: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(judge: FittedClassifier, texts: Sequence[str], n: int, seed: int) -> np.ndarray:
        doubt = np.random.default_rng(seed).uniform(0, 0.3, size=(n, 1, 1))
        return (1 - doubt) * judge.probabilities(texts) + doubt * np.array([1.0, 0.0, 0.0])

    monkeypatch.setattr(FittedClassifier, "again", again, raising=False)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    found = measure(World(), reference, tmp_path / "a", samples=400, refits=20)
    alone = measure(World(), reference, tmp_path / "b", samples=400, refits=0)
    assert alone.low_with_judge is alone.high_with_judge is None
    assert (found.p, found.stderr, found.low, found.high) == (alone.p, alone.stderr, alone.low, alone.high)
    assert found.low_with_judge is not None
    assert found.high_with_judge is not None
    narrow, wide = np.subtract(found.high, found.low), np.subtract(found.high_with_judge, found.low_with_judge)
    assert (wide[:2] > 1.1 * narrow[:2]).all()


def test_an_engine_that_loses_texts_is_not_believed(
    reference: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = World.complete
    monkeypatch.setattr(World, "complete", lambda world, prompts, **fields: whole(world, prompts[1:], **fields))
    with pytest.raises(FaultError, match="complete: the engine lost rows; expected 250; got 249"):
        measure(World(), reference, tmp_path, samples=300)


def test_killed_in_the_middle_it_asks_only_for_the_rest(reference: pl.DataFrame, tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from probes.engines.kept import Kept
from tests.probes.knowledge import writing as here
class Mortal(here.World):
    def complete(self, prompts, **fields):
        if len(self.seeds) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().complete(prompts, **fields)
folder = Path(sys.argv[1])
here.measure(Kept(Mortal(), folder), here.examples(), folder, samples=900, width=0.01)
"""
    folders = [tmp_path / name for name in ("killed", "whole")]
    for folder in folders:
        folder.mkdir()
    root = Path(__file__).parents[3]
    killed = subprocess.run(
        [sys.executable, "-c", code, str(folders[0])], check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (folders[0] / "knowledge.json").exists()
    rest, whole = World(), World()
    for world, folder in ((rest, folders[0]), (whole, folders[1])):
        measure(Kept(world, folder), reference, folder, samples=900, width=0.01)
    assert rest.seeds == whole.seeds[2:]
    one, other = ({p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} for folder in folders)
    assert one == other
