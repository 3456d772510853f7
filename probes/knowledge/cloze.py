"""Known facts against wrong answers: what a model holds for more likely, without asking it to write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from composer.errors import InputError, ModelError, SourceError
from composer.fingerprint import sha256, write_json
from composer.spec import outside_identity, rng
from composer.tables import Schema, write
from composer.types import KnowledgeDistribution
from probes.cost import Counts
from probes.engines import Session
from probes.knowledge.bootstrap import distribution, resampled, spread
from probes.knowledge.facts import UNUSABLE, Question, drawn, questions_of, read_facts
from probes.knowledge.likelihood import LikelihoodProbe, Passage, Tokens, beginning, texts_of, tokenise

FACT: Schema = {
    "domain": pl.String,
    "prompt": pl.String,
    "candidates": pl.List(pl.String),  # the right answer first
    "nats": pl.List(pl.Float64),  # log-probability of each
    "n_bytes": pl.List(pl.UInt32),  # that it speaks of
    "n_shared": pl.UInt32,  # bytes of the prompt among these, the same for each
    "sum": pl.Float64,  # 1 where the right answer has the highest log-probability, shared between equals
    "byte": pl.Float64,  # the same per byte
}

_LEAST = 5  # facts of a domain: a resample of fewer tells little


class Cloze(LikelihoodProbe):
    """Ask whether the model finds the right answer more likely than each of the wrong ones.

    ``facts`` is a JSON Lines or Parquet file of rows ``{domain, prompt, answer, distractors: [...]}``; ``between`` is put
    between a prompt and every answer. Without a file the facts come from the reference rows: a row's last line is the answer,
    up to ``max_answer`` characters, to what stands before it, against ``distractors`` answers of other rows of the domain. Of a
    domain at most ``max_facts`` are asked, drawn by the seed.

    A candidate's score is ``sum log p(token)`` over the tokens of its bytes given the prompt, or that per byte (``score:
    byte``); both accuracies are reported. Prompt and candidate are tokenised together. Where the prompt's end and a candidate
    share a token, or a candidate changes how the prompt's end is cut, all candidates of the fact are judged from the last
    border that they have in common: the same bytes of the prompt then count for every one of them, given the same tokens.

    With accuracy ``a_d`` and chance ``c_d`` (the mean of ``1 / candidates``), the gain ``g_d = (a_d - c_d) / (1 - c_d)`` is 0
    at chance and 1 where every answer is right, and the shares are ``p_d = max(0, g_d) / sum_e max(0, g_e)``. They compare
    domains as far as the facts are equally hard, and are not shares of the training data. The standard errors and the 95 %
    intervals are those of a bootstrap over the facts of each domain, in which a resample without any domain above chance counts
    as even shares; they cover nothing else. Where the interval of the mean gain reaches zero, the probe refuses to tell shares.

    References
    ----------
    Petroni et al., Language Models as Knowledge Bases? (1909.01066). Brown et al. (2005.14165), section 2.4, for the choice
    between answers by likelihood.
    """

    reference: ClassVar[str] = "Petroni et al. 2019 (1909.01066); Brown et al. 2020 (2005.14165), section 2.4"
    summary: ClassVar[str] = "likelihood of right answers against wrong ones, above chance"

    name: Literal["cloze"] = "cloze"
    facts: str | None = outside_identity(None)
    content: str | None = None  # sha256 of the facts file, which bears identity in place of its path
    between: str = " "
    score: Literal["sum", "byte"] = "sum"
    distractors: int = Field(default=4, ge=1)
    max_answer: int = Field(default=64, ge=1)
    max_facts: int = Field(default=500, ge=_LEAST)

    def placed(self, at: Callable[[str], Path]) -> Cloze:
        """Return the probe with its facts file where ``at`` finds it, and with that file's content.

        Raises
        ------
        SourceError
            Where there is no such file.
        """
        if self.facts is None:
            return self
        path = at(self.facts)
        if not path.is_file():
            raise SourceError("no such file", where="probe.facts", got=str(path))
        return self.model_copy(update={"facts": str(path), "content": sha256(path)})

    def plan(self, *, domains: Sequence[str], reference: pl.DataFrame, tokenizer: Any, seed: int) -> Counts:
        """Return what :meth:`measure` will show the model, to the token."""
        questions, _ = self._questions(domains=domains, reference=reference, seed=seed)
        passages, _ = _passages(tokenizer, questions)
        return Counts(prompt_tokens=self.reader(tokenizer).n_tokens(passages))

    def measure(
        self, session: Session, *, domains: Sequence[str], reference: pl.DataFrame, seed: int, folder: Path
    ) -> KnowledgeDistribution:
        """Return the shares; write ``facts.parquet``, ``cloze.json`` and ``knowledge.json`` into the folder.

        Raises
        ------
        SourceError
            Where a domain has too few facts, or the file is not what it should be.
        InputError
            Where the facts file is not the one that was planned with.
        ModelError
            Where the mean gain is not surely above zero, or the model cannot be asked.
        """
        questions, left = self._questions(domains=domains, reference=reference, seed=seed)
        passages, facts = _passages(session.tokenizer, questions)
        facts = _judged(facts, self.reader(session.tokenizer).nats(session, passages))
        write(facts, folder / "facts.parquet", FACT)
        again = np.stack([_resampled_gain(facts, domain, self.score, seed=seed) for domain in domains], axis=1)
        found = {d: {**_summary(facts, d, self.score, again[:, j]), "left_out": left[d]} for j, d in enumerate(domains)}
        write_json(folder / "cloze.json", {"begun_with": beginning(session.tokenizer)[1], "domains": found})
        if not spread(again.mean(axis=1)).low > 0:
            raise ModelError(
                "the facts are not known better than chance", where="probe", expected="accuracies above chance",
                got=", ".join(f"{d} {each['accuracy']:.3f} (chance {each['chance']:.3f})" for d, each in found.items()),
                hint="ask a larger model, or easier or more facts",
            )  # fmt: skip
        gain = np.array([each["gain"] for each in found.values()])
        return distribution(
            shares(gain), shares(again), domains=domains, n=facts.height, probe=self.name, folder=folder,
            rejected=sum(reasons[reason] for reasons in left.values() for reason in UNUSABLE),
        )  # fmt: skip

    def _questions(
        self, *, domains: Sequence[str], reference: pl.DataFrame, seed: int
    ) -> tuple[list[Question], dict[str, Counter[str]]]:
        """Return the questions domain by domain, and what was left out of each domain by reason."""
        questions: list[Question] = []
        left: dict[str, Counter[str]] = {}
        given = self._given(domains)
        rows = texts_of(reference, domains) if given is None else {}
        for domain in domains:
            if given is None:
                own, left[domain] = questions_of(
                    rows[domain], domain=domain, most=self.max_facts, max_answer=self.max_answer,
                    distractors=self.distractors, seed=seed,
                )  # fmt: skip
            else:
                own, left[domain] = drawn([each for each in given if each.domain == domain], domain, self.max_facts, seed=seed)
            if len(own) < _LEAST:
                told = ", ".join(f"{reason} {n}" for reason, n in sorted(left[domain].items()) if n)
                raise SourceError(
                    "too few facts", where=f"domain {domain}", expected=f"at least {_LEAST}",
                    got=f"{len(own)}, with {told} left out" if told else len(own),
                    hint="add facts, or rows whose last line is a short answer",
                )  # fmt: skip
            questions += own
        return questions, left

    def _given(self, domains: Sequence[str]) -> list[Question] | None:
        """Return the questions of the facts file, which must still be the one that was planned with."""
        if self.facts is None:
            return None
        path = Path(self.facts)
        found = sha256(path) if path.is_file() else "no such file"
        if found != self.content:
            hint = "plan again; from Python, call placed(Path) first"
            raise InputError("not the planned facts", where=str(path), expected=str(self.content), got=found, hint=hint)
        return read_facts(path, domains=domains, between=self.between)


def shares(gain: np.ndarray) -> np.ndarray:
    """Return shares in proportion to the gains above zero, float64 (..., D); where there is none, even shares.

    Examples
    --------
    >>> shares(np.array([[0.6, 0.2, 0.0, -0.1], [0.0, -0.3, 0.0, 0.0]])).round(2).tolist()
    [[0.75, 0.25, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]]
    """
    above = np.maximum(gain, 0.0)
    total = above.sum(axis=-1, keepdims=True)
    return np.asarray(np.where(total > 0, above / np.where(total > 0, total, 1), 1 / above.shape[-1]))


def _passages(tokenizer: Any, questions: Sequence[Question]) -> tuple[list[Passage], pl.DataFrame]:
    """Return a passage per candidate, question by question, and the FACT rows but for what the model says."""
    read = iter(tokenise(tokenizer, [each.prompt + candidate for each in questions for candidate in each.candidates]))
    passages: list[Passage] = []
    rows = []
    for each in questions:
        own = [next(read) for _ in each.candidates]
        n_prompt = len(each.prompt.encode())
        first = border(own, n_prompt)
        passages += [Passage(found.ids, first, len(found.ids)) for found in own]
        n_bytes = [int(found.edges[-1] - found.edges[first]) for found in own]
        rows.append((each.domain, each.prompt, list(each.candidates), n_bytes, n_prompt - int(own[0].edges[first])))
    schema = {column: dtype for column, dtype in FACT.items() if column not in ("nats", "sum", "byte")}
    return passages, pl.DataFrame(rows, schema=schema, orient="row")


def border(candidates: Sequence[Tokens], n_prompt: int) -> int:
    """Return how many tokens all candidates begin with alike, none of them reaching beyond ``n_prompt`` bytes."""
    alike = sum(1 for _ in takewhile(lambda ids: len(set(ids)) == 1, zip(*(each.ids for each in candidates), strict=False)))
    return max(i for i in range(alike + 1) if all(each.whole[i] and each.edges[i] <= n_prompt for each in candidates))


def _judged(facts: pl.DataFrame, nats: np.ndarray) -> pl.DataFrame:
    """Return FACT rows, given the log-probability of every candidate, question by question."""
    n_bytes = facts["n_bytes"].to_list()
    each = np.split(nats, np.cumsum([len(own) for own in n_bytes])[:-1])
    credits = {
        "sum": [_credit(own) for own in each],
        "byte": [_credit(own / np.array(sizes)) for own, sizes in zip(each, n_bytes, strict=True)],
    }
    return facts.with_columns(
        pl.Series("nats", [own.tolist() for own in each], dtype=pl.List(pl.Float64)),
        *(pl.Series(name, values, dtype=pl.Float64) for name, values in credits.items()),
    )


def _credit(score: np.ndarray) -> float:
    best = score == score.max()
    return float(best[0] / best.sum())


def _gain(accuracy: Any, chance: Any) -> Any:
    return (accuracy - chance) / (1 - chance)


def _credit_and_chance(facts: pl.DataFrame, domain: str, score: str) -> np.ndarray:
    own = facts.filter(pl.col("domain") == domain)
    return np.stack([own[score].to_numpy(), 1 / own["candidates"].list.len().to_numpy()], axis=1)


def _resampled_gain(facts: pl.DataFrame, domain: str, score: str, *, seed: int) -> np.ndarray:
    rows = _credit_and_chance(facts, domain, score)
    return np.asarray(_gain(*resampled(rows, rng(seed, "cloze", "bootstrap", domain)).T))


def _summary(facts: pl.DataFrame, domain: str, score: str, again: np.ndarray) -> dict[str, Any]:
    """Return a domain's accuracies, its chance, and its gain with the gain's spread."""
    own = facts.filter(pl.col("domain") == domain)
    accuracy, chance = _credit_and_chance(facts, domain, score).mean(axis=0)
    found = spread(again)
    return {
        "accuracy": float(accuracy),
        "accuracy_sum": own["sum"].mean(),
        "accuracy_byte": own["byte"].mean(),
        "chance": float(chance),
        "gain": float(_gain(accuracy, chance)),
        "stderr": float(found.stderr),
        "low": float(found.low),
        "high": float(found.high),
        "facts": own.height,
        "sharing_prompt_bytes": int((own["n_shared"] > 0).sum()),
    }
