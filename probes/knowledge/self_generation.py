"""VersaTune's probe: let a base model write from nothing and have a judge say what it wrote about.

A model that is given only the beginning-of-text token writes texts as often as its training made them likely, so the domains of
those texts are the domains it was trained on. What can be learnt this way was measured on models of known training mixtures:
the estimate comes within about 0.04 (total variation) and stays there, so more than a thousand samples buy little, and any
temperature but 1 makes it worse.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from composer.errors import ModelError, SpecError
from composer.fingerprint import write_json
from composer.progress import bar, say
from composer.spec import digest, member_of, seed_of
from composer.tables import COMPLETION, Schema, write
from composer.types import KnowledgeDistribution
from probes.cost import Counts
from probes.engines import Completion, Session
from probes.engines.requests import Request, answers, at_once
from probes.knowledge import KnowledgeProbe
from probes.knowledge.bootstrap import RESAMPLES, floats, long, write_resamples
from probes.knowledge.estimate import Rounds, estimate, interval_with_judge
from probes.knowledge.judges import JUDGES, FittedJudge, Judge
from probes.knowledge.judges.classifier import Classifier
from probes.knowledge.likelihood import beginning

if TYPE_CHECKING:
    AnyJudge = Judge
else:
    AnyJudge = member_of(JUDGES, kind="judge")

JUDGEMENT: Schema = {"sample": pl.UInt32, "domain": pl.String, "probability": pl.Float64}
NOTE = (
    "The interval covers the sampling of texts; a second one, where it is given, also which reference texts the judge learnt "
    "from. Neither covers what the judge gets wrong throughout, nor how far what a model writes from nothing is from what it "
    "was trained on; from about a thousand texts on these weigh more. The shares count documents, not tokens."
)

Stop = Literal["samples", "width", "tokens"]


class SelfGeneration(KnowledgeProbe):
    """Sample texts from the beginning-of-text token, judge them and average the judge's probabilities.

    ``P_j = (1/T) sum_t (1/N_t) sum_s p_j(s)`` over T ``rounds`` of ``samples`` texts, of which ``N_t`` could be judged; a text
    without any character cannot, is counted as rejected and left out. A tokenizer without a beginning-of-text token starts
    with its end-of-text token, which the result says. Keep the temperature at 1: any other samples another distribution than
    the model's own.

    That many texts are the most that is drawn. With ``width`` it ends as soon as every 95 % interval is narrower, and with
    ``max_tokens`` before a text could pass that many generated tokens: no text is cut short for it, since short texts are not
    of all domains alike. Both are looked at every ``shard`` texts (how many are asked for at once) and depend on the texts
    alone, not on the speed. A round that is cut short counts by the texts that were drawn of it. Stopping at the first interval
    that looks narrow was not seen to cost coverage: 0.954 of 720 intervals of width 0.06 on drawn labels of six domains.

    The standard error and the 95 % interval are those of a bootstrap over the texts, round by round. A second interval also
    lets the judge's reference texts vary, by ``refits`` judges of resampled ones (0 leaves it out). ``note`` in the result says
    what neither covers. The shares count documents, not tokens.

    References
    ----------
    VersaTune (2411.11266), section 3.1; released code for the end-of-text token as the prompt.
    """

    reference: ClassVar[str] = "VersaTune (2411.11266), section 3.1"
    summary: ClassVar[str] = "texts that the model writes from nothing, told apart by a judge"

    name: Literal["self_generation"] = "self_generation"
    samples: int = Field(default=1000, ge=1)
    rounds: int = Field(default=1, ge=1)
    width: float | None = Field(default=None, gt=0, lt=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_new_tokens: int = Field(default=128, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    shard: int = Field(default=250, ge=1)
    refits: int = Field(default=50, ge=0)
    judge: AnyJudge = Classifier()

    @model_validator(mode="after")
    def _check(self) -> SelfGeneration:
        if self.max_tokens is not None and self.max_tokens < self.max_new_tokens:
            raise SpecError(
                "the budget does not allow one text", where="max_tokens", got=self.max_tokens,
                expected=f"at least max_new_tokens, {self.max_new_tokens}",
            )  # fmt: skip
        return self

    def plan(
        self,
        *,
        domains: Sequence[str],  # noqa: ARG002  texts are asked for, whatever they turn out to be of
        reference: pl.DataFrame,  # noqa: ARG002
        tokenizer: Any,  # noqa: ARG002
        seed: int,  # noqa: ARG002
    ) -> Counts:
        """Return the most that :meth:`measure` asks for: every text as long as it may be, within the budget."""
        most = self.samples * self.rounds
        if self.max_tokens is not None:
            most = min(most, self.max_tokens)  # each has a token at least
        written = min(self.samples * self.rounds * self.max_new_tokens, self.max_tokens or sys.maxsize)
        return Counts(generations=most, prompt_tokens=most, output_tokens=written)

    def measure(
        self, session: Session, *, domains: Sequence[str], reference: pl.DataFrame, seed: int, folder: Path
    ) -> KnowledgeDistribution:
        """Return the shares; write texts, judgements, the judge's record, resampled shares and the result into the folder.

        The files are ``completions``, ``judgements`` and ``resamples`` as Parquet, ``judge.json`` and ``knowledge.json``.

        Raises
        ------
        SourceError
            Where a domain has too few reference texts.
        ModelError
            Where the judge is no better than guessing, the tokenizer has no token to begin with, or no text can be judged.
        FaultError
            Where the engine gives back fewer texts than it was asked for, or more.
        """
        texts, labels = reference["text"].to_list(), reference["domain"].to_list()
        judge = self.judge.fit(texts, labels, domains=domains, seed=seed, session=session)
        reader = _Reader(judge, n_domains=len(domains))
        drawn = self._draw(session, reader, seed=seed)
        write(drawn.texts, folder / "completions.parquet", COMPLETION)
        knowledge = self._answer(drawn, reader, domains=domains, seed=seed, folder=folder)
        write_json(folder / "knowledge.json", knowledge.model_dump(mode="json"))
        return knowledge

    def _draw(self, session: Session, reader: _Reader, *, seed: int) -> _Drawn:
        """Return COMPLETION rows, sample k of round ``k // samples``, and what ended them."""
        (begin, begun_with), meter = beginning(session.tokenizer), _Meter()
        if begun_with.startswith("eos"):
            say(f"the tokenizer has no beginning-of-text token; every text begins with its end-of-text token: {begun_with}")
        texts, stopped = pl.DataFrame(schema=dict(COMPLETION)), None
        with bar("sampling the model", total=self.samples * self.rounds, unit="texts") as shown:
            while stopped is None:
                parts = self._certain(texts, most=sys.maxsize if self.width is None else at_once(session))
                requests = [self._request(begin, start, count, seed=seed) for start, count in parts]
                made = []
                for (start, count), found in zip(parts, answers(session, requests, heard=meter.add), strict=True):
                    made.append(_rows(start, found))
                    shown.advance(count)
                reader.take(made)
                for each in made:
                    if stopped is None:
                        texts = pl.concat([texts, each], rechunk=True)
                        stopped = self._stop(texts, reader, seed=seed)
        meter.tell()
        return _Drawn(texts, stopped, begun_with)

    def _request(self, begin: int, start: int, count: int, *, seed: int) -> Request:
        settings = {"max_new_tokens": self.max_new_tokens, "temperature": self.temperature}
        return Request("complete", [[begin]] * count, {**settings, "seed": seed_of(seed, "self_generation", start)})

    def _certain(self, texts: pl.DataFrame, *, most: int) -> list[tuple[int, int]]:
        """Return first sample and size of the shards that come next whatever will be written, at most so many."""
        start = texts.height
        left, affordable = self.samples * self.rounds - start, self._affordable(texts)
        if affordable < left:  # by what is written of these it is decided how many more there can be
            left = affordable // self.shard * self.shard or affordable
        end = start + left
        return [(at, min(self.shard, end - at)) for at in range(start, end, self.shard)][:most]

    def _affordable(self, texts: pl.DataFrame) -> int:
        """Return how many more texts the budget of tokens allows, each as long as it may be."""
        if self.max_tokens is None:
            return sys.maxsize
        return max(0, self.max_tokens - _n_tokens(texts)) // self.max_new_tokens

    def _stop(self, texts: pl.DataFrame, reader: _Reader, *, seed: int) -> Stop | None:
        """Return what ends the sampling after these texts."""
        if self.width is not None and len(probability := reader.probability(texts)):
            found = estimate(reader.judge, probability, self._rounds(texts), seed=seed)
            if found.narrower(self.width, n=len(probability)):
                return "width"
        if texts.height == self.samples * self.rounds:
            return "samples"
        return None if self._affordable(texts) else "tokens"

    def _rounds(self, texts: pl.DataFrame) -> Rounds:
        drawn = np.bincount(texts["sample"].to_numpy() // self.samples)
        return Rounds(_judgeable(texts)["sample"].to_numpy() // self.samples, drawn / self.samples)

    def _answer(
        self, drawn: _Drawn, reader: _Reader, *, domains: Sequence[str], seed: int, folder: Path
    ) -> KnowledgeDistribution:
        """Judge the texts, write what the judge and the resamples say, and return the shares."""
        judge, judged, probability = reader.judge, _judgeable(drawn.texts), reader.probability(drawn.texts)
        if judged.is_empty():
            raise ModelError("the model wrote no text that can be judged", got=f"{drawn.texts.height} empty texts")
        record = {"domains": list(domains), "accuracy": judge.accuracy, "confusion": judge.confusion.tolist()}
        write_json(folder / "judge.json", {**record, "report": {**judge.report, "judged": dict(judge.judged(probability))}})
        rows = long("sample", judged["sample"].to_numpy(), domains, "probability", probability)
        write(rows, folder / "judgements.parquet", JUDGEMENT)
        rounds = self._rounds(drawn.texts)
        found = estimate(judge, probability, rounds, seed=seed)
        write_resamples(folder / RESAMPLES, found.resamples, domains)
        low, high = map(floats, found.interval)
        wide = interval_with_judge(judge, judged["text"].to_list(), rounds, found, n=self.refits, seed=seed)
        low_with_judge, high_with_judge = map(floats, wide) if wide else (None, None)
        return KnowledgeDistribution(
            domains=tuple(domains), p=floats(found.share), stderr=floats(found.stderr), low=low, high=high,
            low_with_judge=low_with_judge, high_with_judge=high_with_judge, n=judged.height,
            rejected=drawn.texts.height - judged.height, n_tokens=_n_tokens(drawn.texts), stopped=drawn.stopped,
            begun_with=drawn.begun_with, accuracy=judge.accuracy, probe=self.name, note=_note(probability, domains),
            judge=f"{self.judge.name} {digest([self.judge, *record.values()])}",
        )  # fmt: skip


class _Reader:
    """What the judge says of the texts drawn so far; it reads every text once, and shard by shard whoever asks."""

    def __init__(self, judge: FittedJudge, *, n_domains: int) -> None:
        self.judge = judge
        self._shards: list[pl.DataFrame] = []
        self._n_texts, self._parts = 0, [np.zeros((0, n_domains))]

    def take(self, shards: Sequence[pl.DataFrame]) -> None:
        """Take the shards that come next; a judge that is slow may read them at once."""
        self.judge.ahead([_judgeable(each)["text"].to_list() for each in shards])
        self._shards += shards

    def probability(self, texts: pl.DataFrame) -> np.ndarray:
        """Return float64 (n, D), a row for every text of the first shards, which are these, that can be judged."""
        while self._n_texts < texts.height:
            part = self._shards[len(self._parts) - 1]
            self._parts.append(self.judge.probabilities(_judgeable(part)["text"].to_list()))
            self._n_texts += part.height
        return np.concatenate(self._parts)


@dataclass(frozen=True)
class _Drawn:
    """COMPLETION rows, what ended them, and the token that each began with."""

    texts: pl.DataFrame
    stopped: Stop
    begun_with: str


@dataclass
class _Meter:
    """How fast this run samples; shards that an earlier one left do not count."""

    n: int = 0
    n_tokens: int = 0
    seconds: float = 0.0

    def add(self, made: Sequence[Completion], seconds: float) -> None:
        n_tokens = sum(len(each.ids) for each in made)
        self.n, self.n_tokens, self.seconds = self.n + len(made), self.n_tokens + n_tokens, self.seconds + seconds

    def tell(self) -> None:
        if self.seconds:
            rates = f"{self.n / self.seconds:,.1f} texts and {self.n_tokens / self.seconds:,.0f} tokens per second"
            say(f"sampled {self.n:,} texts, {self.n_tokens:,} tokens, in {self.seconds:,.1f} s: {rates}")


def _rows(start: int, made: Sequence[Completion]) -> pl.DataFrame:
    """Return completions as COMPLETION rows, numbered from ``start`` on."""
    rows = [(start + i, each.text, len(each.ids), each.finished) for i, each in enumerate(made)]
    return pl.DataFrame(rows, schema=dict(COMPLETION), orient="row")


def _judgeable(texts: pl.DataFrame) -> pl.DataFrame:
    return texts.filter(pl.col("text").str.strip_chars() != "")


def _n_tokens(texts: pl.DataFrame) -> int:
    return int(texts["n_tokens"].cast(pl.UInt64).sum())


def _note(probability: np.ndarray, domains: Sequence[str]) -> str:
    """Return what the intervals do not cover and which domains no text fell to, which is said at once too."""
    met = set(probability.argmax(axis=1).tolist())
    absent = [domain for j, domain in enumerate(domains) if j not in met]
    if not absent:
        return NOTE
    told = f"None of the {len(probability):,} texts was judged to be of {', '.join(absent)}: what share there is, is doubt."
    say(told)
    return f"{NOTE} {told}"
