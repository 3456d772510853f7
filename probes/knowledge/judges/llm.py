"""A language model as the judge: asked for one letter, by the probabilities of the next token and never by free text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from composer.errors import ModelError
from composer.spec import OnModel, member_of, rng
from composer.types import ModelRef
from probes.engines import ENGINES, Engine, Session
from probes.engines.hf import Hf
from probes.engines.requests import Request, answers, beside, n_positions
from probes.knowledge.judges import Judge
from probes.knowledge.judges.examples import FOLDS, examples, resample
from probes.knowledge.judges.fitted import Fitted
from probes.knowledge.judges.held_out import HeldOut
from probes.knowledge.judges.prompt import Prompt, build
from probes.knowledge.judges.scaling import cross_fit, learn, log_softmax

if TYPE_CHECKING:
    AnyEngine = Engine
else:
    AnyEngine = member_of(ENGINES, kind="engine")

ROWS = 250
"""Texts that are asked about in one request."""

_LEAST = -100.0  # nats; what is less likely than that is not told apart


class Llm(OnModel, Judge):
    """Ask a causal model for the letter of a text's domain, after ``shots`` reference texts of each domain with theirs.

    ``p_j(x) ~ P(letter j | shots, x)``: one prefill per text and no text that must be parsed, so nothing is lost. What the
    model would answer whatever the text is, and its over-confidence, are taken out by offsets and a slope that are learnt on
    ``max_texts`` more reference texts of each domain; on these, each fifth calibrated by the rest, the judge is measured.

    Without ``model`` (a folder or a Hub id) the probed model judges its own texts. With one, ``engine`` opens it for as long as
    it is asked. Of a text the first ``max_chars`` characters are shown, and fewer where the model has not the positions: such
    texts are cut at their end and counted.

    References
    ----------
    VersaTune (2411.11266), section 3.1, whose judge answers in words. Zhao et al., Calibrate before use (2102.09690), section
    5, for dividing by the prior; Alexandari et al., ICML 2020, section 3, for learning it on held-out texts.
    """

    reference: ClassVar[str] = "VersaTune (2411.11266), section 3.1; calibration of Zhao et al. (2102.09690), section 5"
    summary: ClassVar[str] = "a language model that is asked for a letter: few shots, one token, calibrated"

    name: Literal["llm"] = "llm"
    engine: AnyEngine = Hf()
    model: str | None = None
    shots: int = Field(default=2, ge=0)
    correct: bool = False
    max_chars: int = Field(default=600, ge=1)
    max_texts: int = Field(default=50, ge=FOLDS)

    def fit(
        self, texts: Sequence[str], labels: Sequence[str], *, domains: Sequence[str], seed: int, session: Session | None = None
    ) -> FittedLlm:
        """Draw the shots and learn the calibration; neither the order of the texts nor repeated ones matter.

        Raises
        ------
        SourceError
            Where a domain has fewer than ``shots`` and five distinct texts, or a label is no domain.
        ModelError
            Where there is no model to ask, it has no token for a letter, the shots do not fit, or it is no better than chance.
        """
        if self.model is None and session is None:
            raise ModelError("no model to judge with", where="probe.judge.model", hint="name a model, or use the classifier")
        kept, y = examples(
            texts, labels, domains=domains, seed=seed, max_chars=self.max_chars,
            max_texts=self.shots + self.max_texts, least=self.shots + FOLDS,
        )  # fmt: skip
        shown = _draw_shots(y, n=self.shots, domains=domains, seed=seed)
        with self._opened(session) as opened:
            prompt = build(opened.tokenizer, domains=domains, shots=[(kept[i], domains[y[i]]) for i in shown])
            asking = _Asking(partial(self._opened, session), prompt, self.max_chars)
            rest = np.setdiff1d(np.arange(len(kept)), shown)
            found = np.stack([each.log_p for each in asking.ask(opened, _requests([kept[i] for i in rest]))])
        return FittedLlm(self, asking, log_softmax(found), y[rest], mass=float(np.exp(found).sum(axis=1).mean()), seed=seed)

    @contextmanager
    def _opened(self, session: Session | None) -> Iterator[Session]:
        if self.model is not None:
            with beside(session, self.engine, ModelRef(path=self.model)) as own:
                yield own
        elif session is not None:
            yield session


class FittedLlm(Fitted):
    """See :class:`probes.knowledge.judges.FittedJudge`."""

    def __init__(self, spec: Llm, asking: _Asking, log_p: np.ndarray, label: np.ndarray, *, mass: float, seed: int) -> None:
        self._scaling = learn(log_p, label, offsets=True)
        notes = {
            "method": "contextual", "slope": self._scaling.slope, "offset": self._scaling.offset.tolist(), "label_mass": mass,
        }  # fmt: skip
        held_out = cross_fit(log_p, label, offsets=True, seed=seed)
        likeness = HeldOut(self._scaling.apply(log_p), label)
        super().__init__(held_out, correct=spec.correct, calibration=notes, likeness=likeness)
        self._asking, self._log_p, self._label = asking, log_p, label

    def _judge(self, texts: Sequence[str]) -> np.ndarray:
        return self._scaling.apply(self._answers(texts))

    def judged(self, probability: np.ndarray) -> dict[str, Any]:
        """Return the same as every judge, and how many texts were cut to fit the model."""
        return {**super().judged(probability), "cut": self._asking.n_cut}

    def ahead(self, parts: Iterable[Sequence[str]]) -> None:
        """Ask at once about the texts of all parts."""
        self._asking.ahead(parts)

    def again(self, texts: Sequence[str], n: int, seed: int) -> np.ndarray:
        """Return float64 (n, N, D): the texts judged with ``n`` calibrations learnt on resamples of the reference texts.

        The shots and the model's own answers stay; no text is asked about again.
        """
        log_p = self._answers(texts)
        times = (resample(self._label, rng(seed, "judge", "again", k)) for k in range(n))
        every = [learn(self._log_p, self._label, offsets=True, times=each).apply(log_p) for each in times]
        return np.stack(every) if every else np.zeros((0, *log_p.shape))

    def _answers(self, texts: Sequence[str]) -> np.ndarray:
        return log_softmax(self._asking(texts)) if len(texts) else np.zeros((0, len(self.confusion)))


@dataclass(frozen=True, eq=False)
class _Answer:
    """Natural log-probabilities, float64 (D,), of the letters as the next token, and whether the text was cut."""

    log_p: np.ndarray
    cut: bool


class _Asking:
    """A model and a prompt; keeps the answers on all texts that it was asked, and which of those asked for were cut."""

    def __init__(self, opened: Callable[[], AbstractContextManager[Session]], prompt: Prompt, max_chars: int) -> None:
        self._opened, self._prompt, self._max_chars = opened, prompt, max_chars
        self._known: dict[str, _Answer] = {}
        self._cut: set[str] = set()

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Return natural log-probabilities, float64 (n, D), of the letters as the next token."""
        self.ahead([texts])
        self._cut |= {text for text in texts if self._known[text].cut}
        return np.stack([self._known[text].log_p for text in texts])

    @property
    def n_cut(self) -> int:
        """How many of the texts that were called for were cut."""
        return len(self._cut)

    def ahead(self, parts: Iterable[Sequence[str]]) -> None:
        """Ask at once of all parts what would be asked of one after the other, in the same requests."""
        met = set(self._known)
        requests: list[Sequence[str]] = []
        for part in parts:
            new = [text for text in dict.fromkeys(part) if text not in met]
            met.update(new)
            requests += _requests(new)
        if requests:
            with self._opened() as session:
                self._known.update(zip(chain(*requests), self.ask(session, requests), strict=True))

    def ask(self, session: Session, requests: Sequence[Sequence[str]]) -> list[_Answer]:
        """Return what an open session answers, text after text."""
        most, asked, cut = _most_tokens(session), list[Request](), list[bool]()
        for texts in requests:
            shown = [text[: self._max_chars] for text in texts]
            prompts, own = self._prompt.around(shown, tokenizer=session.tokenizer, most=most)
            asked.append(Request("choose", prompts, {"choices": list(self._prompt.choices)}))
            cut += own
        found = np.concatenate(list(answers(session, asked)))
        return list(map(_Answer, np.maximum(found, _LEAST), cut))


def _requests(texts: Sequence[str]) -> list[Sequence[str]]:
    """Return texts in runs of :data:`ROWS`."""
    return [texts[i : i + ROWS] for i in range(0, len(texts), ROWS)]


def _draw_shots(y: np.ndarray, *, n: int, domains: Sequence[str], seed: int) -> np.ndarray:
    """Return which texts are shown: rounds of one text of each domain, every round in an order of its own."""
    own = {
        domain: rng(seed, "judge", "shots", domain).permutation(np.flatnonzero(y == j))[:n] for j, domain in enumerate(domains)
    }
    order = rng(seed, "judge", "shots")
    rounds = [[own[domain][k] for domain in order.permutation(sorted(domains))] for k in range(n)]
    return np.array(rounds, dtype=np.int64).ravel()


def _most_tokens(session: Session) -> int:
    """Return how many tokens may stand before the next one, as far as the session and its tokenizer tell."""
    told = (n_positions(session), session.tokenizer.model_max_length)
    return int(min(n for n in told if n is not None)) - 1
