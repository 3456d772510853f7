"""A probe finds known shares, says how sure it is, and loses no text in silence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from composer.errors import FaultError, ModelError, SourceError, SpecError
from composer.progress import Silence, listener
from composer.tables import COMPLETION, read
from composer.types import KnowledgeDistribution
from probes.engines import Completion, Session, TokenScores
from probes.knowledge.estimate import RESAMPLES, read_resamples
from probes.knowledge.judges.classifier import Classifier, FittedClassifier
from probes.knowledge.self_generation import JUDGEMENT, NOTE, SelfGeneration

DOMAINS = ("law", "medicine", "code")
TRUTH = (0.6, 0.3, 0.1)
WORDS = {"law": "court judge clause", "medicine": "patient dose fever", "code": "function loop array"}


def text(domain: str, random: np.random.Generator) -> str:
    return " ".join(random.choice(WORDS[domain].split(), size=8))


class World:
    """A session that writes texts of known domains and counts what it is asked; a text has ``longest`` tokens at most."""

    def __init__(
        self, *, bos: int | None = 0, eos: int | None = 1, empty: float = 0.0, breaks_after: int = 10**9, longest: int = 8,
        shares: Sequence[float] = TRUTH,
    ) -> None:  # fmt: skip
        self.tokenizer: Any = SimpleNamespace(bos_token_id=bos, bos_token="<s>", eos_token_id=eos, eos_token="</s>")
        self.empty, self.breaks_after, self.longest, self.shares = empty, breaks_after, longest, shares
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
        return [self._write(random) for _ in prompts]

    def _write(self, random: np.random.Generator) -> Completion:
        words = " \n" if random.random() < self.empty else text(DOMAINS[random.choice(3, p=self.shares)], random)
        n_tokens = 8 if self.longest == 8 else int(random.integers(1, self.longest + 1))
        return Completion((5,) * n_tokens, words, True)

    def score(self, sequences: Sequence[Sequence[int]]) -> list[TokenScores]:
        raise NotImplementedError

    def choose(self, prompts: Sequence[Sequence[int]], choices: Sequence[int]) -> np.ndarray:
        raise NotImplementedError


class Ear(Silence):
    """A listener that keeps every line."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def told() -> Iterator[list[str]]:
    ear = Ear()
    token = listener.set(ear)
    yield ear.lines
    listener.reset(token)


def examples() -> pl.DataFrame:
    random = np.random.default_rng(0)
    rows = [(domain, text(domain, random)) for domain in DOMAINS for _ in range(30)]
    return pl.DataFrame(rows, schema=["domain", "text"], orient="row")


@pytest.fixture(scope="module")
def reference() -> pl.DataFrame:
    return examples()


def measure(world: Session, reference: pl.DataFrame, folder: Path, *, seed: int = 0, **fields: Any) -> KnowledgeDistribution:
    return SelfGeneration(**fields).measure(world, domains=DOMAINS, reference=reference, seed=seed, folder=folder)


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


def test_the_result_says_what_was_drawn_and_how_it_began_and_ended(
    reference: pl.DataFrame, tmp_path: Path, told: list[str]
) -> None:
    found = measure(World(longest=20), reference, tmp_path, samples=300)
    lengths = read(tmp_path / "completions.parquet", COMPLETION)["n_tokens"]
    assert (found.n_tokens, found.stopped, found.begun_with) == (lengths.sum(), "samples", "bos_token <s>")
    assert found.note == NOTE
    assert found.judge.startswith("classifier ")
    assert any(line.startswith(f"sampled 300 texts, {lengths.sum():,} tokens, in ") for line in told)
    resamples = read_resamples(tmp_path / RESAMPLES, DOMAINS)
    assert resamples.std(axis=0, ddof=1) == pytest.approx(found.stderr)
    assert found.low == pytest.approx(np.quantile(resamples, 0.025, axis=0))


def test_a_result_of_an_older_version_is_read() -> None:
    fields = {"domains": ["a"], "p": [1.0], "stderr": [0.0], "low": [1.0], "high": [1.0], "n": 3, "rejected": 1,
              "accuracy": 0.9, "model": "", "probe": "self_generation"}  # fmt: skip
    found = KnowledgeDistribution(**fields)
    assert (found.stopped, found.begun_with, found.n_tokens, found.note, found.low_with_judge) == ("", "", 0, "", None)


def test_without_a_beginning_the_end_token_begins_and_is_named(
    reference: pl.DataFrame, tmp_path: Path, told: list[str]
) -> None:
    assert measure(World(bos=None), reference, tmp_path, samples=3).begun_with == "eos_token </s>"
    assert any("no beginning-of-text token; every text begins with its end-of-text token: eos_token </s>" in t for t in told)


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


def test_a_domain_that_no_text_fell_to_is_named(reference: pl.DataFrame, tmp_path: Path, told: list[str]) -> None:
    found = measure(World(shares=(0.5, 0.5, 0.0)), reference, tmp_path, samples=50)
    line = "None of the 50 texts was judged to be of code: what share there is, is doubt."
    assert line in told
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
    with pytest.raises(FaultError, match="samples from 0 on: the engine lost texts; expected 250; got 249"):
        measure(World(), reference, tmp_path, samples=300)


def test_killed_in_the_middle_it_asks_only_for_the_rest(reference: pl.DataFrame, tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_self_generation as here
class Mortal(here.World):
    def complete(self, prompts, **fields):
        if len(self.seeds) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().complete(prompts, **fields)
here.measure(Mortal(), here.examples(), Path(sys.argv[2]), samples=900, width=0.01)
"""
    folders = [tmp_path / name for name in ("killed", "whole")]
    for folder in folders:
        folder.mkdir()
    root = Path(__file__).parents[3]
    killed = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent), str(folders[0])], check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (folders[0] / "knowledge.json").exists()
    rest, whole = World(), World()
    for world, folder in ((rest, folders[0]), (whole, folders[1])):
        measure(world, reference, folder, samples=900, width=0.01)
    assert rest.seeds == whole.seeds[2:]
    one, other = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in folders)
    assert one == other
