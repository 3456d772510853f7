"""Tags by a language model that is asked for them, as InsTag asks."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeGuard

import polars as pl
from pydantic import Field

from composer.artifact import shard
from composer.encode import prompt_ids
from composer.fingerprint import write_json
from composer.progress import say, track
from composer.spec import OnModel, digest, member_of, seed_of
from composer.tables import Schema, read, write
from composer.types import ModelRef
from probes.engines import ENGINES, Completion, Engine, Session
from probes.engines.hf import Hf
from probes.tags import Tagger, normalise
from probes.tags.answer import question, read_answer, schema

if TYPE_CHECKING:
    AnyEngine = Engine
else:
    AnyEngine = member_of(ENGINES, kind="engine")

ANSWER: Schema = {"text": pl.String, "attempt": pl.UInt32, "answer": pl.String}

_SHARD = 1000
_SHARDS = ".shards"


class Structured(Session, Protocol):
    """A session whose engine can hold a completion to a JSON schema; that it can is said by ``structured``."""

    structured: bool

    def complete(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        temperature: float = 1.0,
        seed: int,
        schema: Mapping[str, Any] | None = None,
    ) -> list[Completion]:
        """Continue every prompt as :meth:`probes.engines.Session.complete` does, to JSON of the schema where one is given."""


class Llm(OnModel, Tagger):
    """Ask a causal model for a JSON list of tags with explanations, few-shot, once for every distinct text.

    The first answer is the most likely one; a text without a valid answer is asked for up to ``retries`` times more, at
    ``temperature`` and each time with another seed. An engine that can hold answers to a schema does; other answers are read
    leniently. A text whose answers are all invalid has no tags. Answers that were invalid, were read in part or are missing
    are counted, told, and stand in the record: ``answers.parquet`` and ``answers.json``.

    Of a text the first ``max_chars`` characters are shown. Texts without letters and numbers are not asked about. What a model
    writes at the first attempt depends on the text alone, later ones on which texts failed besides.

    References
    ----------
    InsTag (2308.07074), section 2; InsCL (2403.11435), section 3.3. The question and its examples are others.
    """

    reference: ClassVar[str] = "InsTag (2308.07074), section 2; InsCL (2403.11435), section 3.3"
    summary: ClassVar[str] = "intentions that a language model names, as JSON"

    name: Literal["llm"] = "llm"
    engine: AnyEngine = Hf()
    model: str
    max_tags: int = Field(default=5, ge=1)
    max_new_tokens: int = Field(default=512, ge=1)
    max_chars: int = Field(default=4000, ge=1)
    retries: int = Field(default=2, ge=0)
    temperature: float = Field(default=0.7, gt=0)

    def propose(self, texts: Sequence[str], *, folder: Path | None) -> list[tuple[str, ...]]:
        """Return the model's tags of every text."""
        asked = _asked(texts)
        answers = self._answers(asked, folder) if asked else pl.DataFrame(schema=dict(ANSWER))
        found = [read_answer(answer) for answer in answers["answer"]]
        tags = {text: answer.tags[: self.max_tags] for text, answer in zip(answers["text"], found, strict=True)}
        counts = {
            "texts": len(set(texts)),
            "not_asked": len(set(texts)) - len(asked),
            "cut": sum(len(text) > self.max_chars for text in asked),
            "answers": len(found),
            "invalid": sum(not answer.tags for answer in found),
            "read_in_part": sum(bool(answer.tags) and not answer.exact for answer in found),
            "untagged": sum(not tags[text] for text in asked),
        }
        say("tags: " + ", ".join(f"{n} {what.replace('_', ' ')}" for what, n in counts.items()))
        if folder is not None:
            write(answers, folder / "answers.parquet", ANSWER)
            write_json(folder / "answers.json", counts)
            shutil.rmtree(folder / _SHARDS, ignore_errors=True)  # all of it stands in answers.parquet by now
        return [tags.get(text, ()) for text in texts]

    def left(self, texts: Sequence[str], *, folder: Path) -> list[str]:
        """Return the names of the shards of answers that are not in the folder yet."""
        return [name for name in self._shards(_asked(texts)) if not (folder / _SHARDS / name).exists()]

    def ask(self, texts: Sequence[str], *, folder: Path, names: Sequence[str]) -> None:
        """Ask for the tags of some shards and keep the answers in the folder; the engine is opened once."""
        (folder / _SHARDS).mkdir(parents=True, exist_ok=True)
        parts = [(name, part) for name, part in self._shards(_asked(texts)).items() if name in names]
        with self.engine.open(ModelRef(path=self.model)) as session:
            for name, part in track(parts, "tagging", unit="shards"):
                shard(folder / _SHARDS, name, partial(self._keep, session, part))

    def _shards(self, asked: list[str]) -> dict[str, list[str]]:
        parts = [asked[start : start + _SHARD] for start in range(0, len(asked), _SHARD)]
        return {digest([self.identity(), question("", max_tags=self.max_tags), part]): part for part in parts}

    def _answers(self, texts: list[str], folder: Path | None) -> pl.DataFrame:
        """Return the ANSWER rows of all attempts; with a folder, in shards that outlive an interrupted run."""
        parts = self._shards(texts)
        if folder is None:
            with self.engine.open(ModelRef(path=self.model)) as session:
                return pl.concat([self._ask(session, part) for part in track(parts.values(), "tagging", unit="shards")])
        if left := self.left(texts, folder=folder):
            self.ask(texts, folder=folder, names=left)
        return pl.concat([read(folder / _SHARDS / name, ANSWER) for name in parts])

    def _keep(self, session: Session, texts: Sequence[str], path: Path) -> None:
        write(self._ask(session, texts), path, ANSWER)

    def _ask(self, session: Session, texts: Sequence[str]) -> pl.DataFrame:
        """Ask until every text has a valid answer or the attempts are used up."""
        form = {"schema": schema(max_tags=self.max_tags)} if is_structured(session) else {}
        messages = [question(text[: self.max_chars], max_tags=self.max_tags) for text in texts]
        prompts = [prompt_ids(session.tokenizer, each) for each in messages]
        rows: list[tuple[str, int, str]] = []
        open_ = list(range(len(texts)))
        for attempt in range(1 + self.retries if texts else 0):
            made = session.complete(
                [prompts[i] for i in open_], max_new_tokens=self.max_new_tokens,
                temperature=self.temperature if attempt else 0.0, seed=seed_of(0, "tags", attempt), **form,
            )  # fmt: skip
            rows += [(texts[i], attempt, completion.text) for i, completion in zip(open_, made, strict=True)]
            open_ = [i for i, completion in zip(open_, made, strict=True) if not read_answer(completion.text).tags]
            if not open_:
                break
        return pl.DataFrame(rows, schema=dict(ANSWER), orient="row")


def _asked(texts: Sequence[str]) -> list[str]:
    """Return the distinct texts that are asked about, in a fixed order."""
    return sorted({text for text in texts if normalise(text)})


def is_structured(session: Session) -> TypeGuard[Structured]:
    """Return whether a session takes a schema."""
    return getattr(session, "structured", False) is True
