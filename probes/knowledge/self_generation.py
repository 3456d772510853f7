"""VersaTune's probe: let a base model write from nothing and have a judge say what it wrote about.

A model that is given only the beginning-of-text token writes texts as often as its training made them likely, so the domains of
those texts are the domains it was trained on. What can be learnt this way was measured on models of known training mixtures:
the estimate comes within about 0.04 (total variation) and stays there, so more than a thousand samples buy little, and any
temperature but 1 makes it worse.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from composer.artifact import shard
from composer.errors import ModelError
from composer.fingerprint import write_json
from composer.progress import track
from composer.spec import digest, member_of, rng, seed_of
from composer.tables import COMPLETION, Schema, read, write
from composer.types import KnowledgeDistribution
from probes.engines import Session
from probes.knowledge import KnowledgeProbe
from probes.knowledge.judges import JUDGES, FittedJudge, Judge
from probes.knowledge.judges.classifier import Classifier

if TYPE_CHECKING:
    AnyJudge = Judge
else:
    AnyJudge = member_of(JUDGES, kind="judge")

JUDGEMENT: Schema = {"sample": pl.UInt32, "domain": pl.String, "probability": pl.Float64}

_SHARD = 250
_SHARDS = ".shards"
_RESAMPLES = 1000


class SelfGeneration(KnowledgeProbe):
    """Sample texts from the beginning-of-text token, judge them and average the judge's probabilities.

    ``P_j = (1/T) sum_t (1/N_t) sum_s p_j(s)`` over T ``rounds`` of ``samples`` texts, of which ``N_t`` could be judged; a text
    without any character cannot, is counted as rejected and left out. A tokenizer without a beginning-of-text token starts
    with its end-of-text token. Keep the temperature at 1: any other samples another distribution than the model's own.

    The standard error and the 95 % interval are those of a bootstrap over the texts, round by round. They cover the sampling of
    texts and nothing else: neither the judge's mistakes nor how far the model's texts are from what it was trained on, which
    together outweigh it from about a thousand samples on. The shares count documents, not tokens.

    References
    ----------
    VersaTune (2411.11266), section 3.1; released code for the end-of-text token as the prompt.
    """

    reference: ClassVar[str] = "VersaTune (2411.11266), section 3.1"
    summary: ClassVar[str] = "texts that the model writes from nothing, told apart by a judge"

    name: Literal["self_generation"] = "self_generation"
    samples: int = Field(default=1000, ge=1)
    rounds: int = Field(default=1, ge=1)
    max_new_tokens: int = Field(default=128, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    judge: AnyJudge = Classifier()

    def measure(
        self, session: Session, *, domains: Sequence[str], reference: pl.DataFrame, seed: int, folder: Path
    ) -> KnowledgeDistribution:
        """Return the shares; write ``completions``, ``judgements``, ``judge.json`` and ``knowledge.json`` into the folder.

        The texts are sampled in resumable shards, so that an interrupted run asks the model only for the rest.

        Raises
        ------
        SourceError
            Where a domain has too few reference texts.
        ModelError
            Where the judge is no better than guessing, the tokenizer has no token to begin with, or no text can be judged.
        """
        texts, labels = reference["text"].to_list(), reference["domain"].to_list()
        judge = self.judge.fit(texts, labels, domains=domains, seed=seed)
        completions = self._completions(session, seed=seed, folder=folder)
        write(completions, folder / "completions.parquet", COMPLETION)
        judged = completions.filter(pl.col("text").str.strip_chars() != "")
        if judged.is_empty():
            raise ModelError("the model wrote no text that can be judged", got=f"{completions.height} empty texts")
        probability = judge.probabilities(judged["text"].to_list())
        write(_judgements(judged["sample"], probability, domains), folder / "judgements.parquet", JUDGEMENT)
        record = {"domains": list(domains), "accuracy": judge.accuracy, "confusion": judge.confusion.tolist()}
        write_json(folder / "judge.json", record)
        knowledge = _estimate(
            judge, probability, judged["sample"].to_numpy() // self.samples, domains=domains, seed=seed,
            rejected=completions.height - judged.height, probe=self.name,
        )  # fmt: skip
        write_json(folder / "knowledge.json", knowledge.model_dump(mode="json"))
        shutil.rmtree(folder / _SHARDS)  # all of it stands in completions.parquet by now
        return knowledge

    def _completions(self, session: Session, *, seed: int, folder: Path) -> pl.DataFrame:
        """Return COMPLETION rows of all rounds; sample k belongs to round ``k // samples``."""
        n_texts, begin = self.samples * self.rounds, _first_token(session)
        home = folder / _SHARDS
        home.mkdir(parents=True, exist_ok=True)
        # what the texts follow from, so that shards of another question in the same folder are not taken for these
        question = digest([begin, n_texts, self.max_new_tokens, self.temperature, seed])

        def sample(start: int, path: Path) -> None:
            prompts = [[begin]] * min(_SHARD, n_texts - start)
            made = session.complete(
                prompts, max_new_tokens=self.max_new_tokens, temperature=self.temperature,
                seed=seed_of(seed, "self_generation", start),
            )  # fmt: skip
            rows = [(start + i, c.text, len(c.ids), c.finished) for i, c in enumerate(made)]
            write(pl.DataFrame(rows, schema=dict(COMPLETION), orient="row"), path, COMPLETION)

        starts = track(range(0, n_texts, _SHARD), "sampling the model", unit="shards")
        return pl.concat([read(shard(home, f"{question}-{k:08d}", partial(sample, k)), COMPLETION) for k in starts])


def _first_token(session: Session) -> int:
    tokenizer = session.tokenizer
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise ModelError("the tokenizer has neither a beginning-of-text nor an end-of-text token", where="base_model.path")


def _judgements(sample: pl.Series, probability: np.ndarray, domains: Sequence[str]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "sample": np.repeat(sample.to_numpy(), len(domains)),
            "domain": list(domains) * len(sample),
            "probability": probability.ravel(),
        },
        schema=dict(JUDGEMENT),
    )


def _estimate(
    judge: FittedJudge,
    probability: np.ndarray,
    group: np.ndarray,
    *,
    domains: Sequence[str],
    seed: int,
    rejected: int,
    probe: str,
) -> KnowledgeDistribution:
    """Average per round and over rounds, with a bootstrap; ``group`` (n,) is the round of each ``probability`` row (n, D)."""
    rounds = [probability[group == t] for t in np.unique(group)]
    share = judge.shares(np.mean([rows.mean(axis=0) for rows in rounds], axis=0))
    random = rng(seed, "self_generation", "bootstrap")
    again = judge.shares(np.mean([_resample(rows, random) for rows in rounds], axis=0))
    low, high = np.quantile(again, [0.025, 0.975], axis=0)
    return KnowledgeDistribution(
        domains=tuple(domains), p=_floats(share / share.sum()), stderr=_floats(again.std(axis=0, ddof=1)),
        low=_floats(low), high=_floats(high), n=len(probability), rejected=rejected, accuracy=judge.accuracy, probe=probe,
    )  # fmt: skip


def _resample(rows: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return the means of resamples with replacement, (resamples, D); a resample is a row of counts."""
    even = np.full(len(rows), 1 / len(rows))
    blocks = [random.multinomial(len(rows), even, size=100) @ rows for _ in range(_RESAMPLES // 100)]  # bounds the memory
    return np.concatenate(blocks) / len(rows)


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
