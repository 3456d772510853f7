"""A model whose answers are written beforehand, and embedders whose places can be read off the tags."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from composer.encode import load_tokenizer
from composer.types import ModelRef
from probes.embed import EMBEDDERS, Embedder
from probes.engines import ENGINES, Completion, Engine
from probes.tags.llm import Llm

Script = Callable[[str, int], str]


class Planted(Embedder):
    """A tag such as ``word 12`` lies on the unit circle at 12 degrees; the cosine distance of x degrees is 1 - cos x."""

    reference: ClassVar[str] = "-"
    summary: ClassVar[str] = "for tests"
    name: Literal["planted"] = "planted"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        angle = np.deg2rad([float(text.split()[-1]) for text in texts])
        return np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32)


class Words(Embedder):
    """A tag lies where its words are; tags that share none are orthogonal."""

    reference: ClassVar[str] = "-"
    summary: ClassVar[str] = "for tests"
    name: Literal["words"] = "words"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        words = sorted({word for text in texts for word in text.split()})
        rows = np.array([[text.split().count(word) for word in words] for text in texts], dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Scripted(Engine):
    """An engine whose sessions answer a request at their nth call as the script says."""

    reference: ClassVar[str] = "-"
    summary: ClassVar[str] = "for tests"
    script: ClassVar[Script]
    structured: ClassVar[bool]
    calls: ClassVar[list[dict[str, Any]]]
    name: Literal["scripted"] = "scripted"

    @contextmanager
    def open(self, model: ModelRef) -> Iterator[Any]:
        yield ScriptedSession(load_tokenizer(model.path))


class ScriptedSession:
    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.structured = Scripted.structured

    def complete(self, prompts: Sequence[Sequence[int]], **how: Any) -> list[Completion]:
        texts = [self.tokenizer.decode(prompt) for prompt in prompts]
        requests = [re.findall("<request>\n(.*?)\n</request>", text, flags=re.DOTALL)[-1] for text in texts]
        Scripted.calls.append({"requests": requests, **how})
        return [Completion((1,), Scripted.script(request, len(Scripted.calls)), True) for request in requests]


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Planted:
    monkeypatch.setitem(EMBEDDERS, "planted", Planted)
    return Planted()


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> Words:
    monkeypatch.setitem(EMBEDDERS, "words", Words)
    return Words()


@pytest.fixture
def scripted(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Llm]:
    """Return what makes an ``llm`` tagger of a script; the calls of its sessions stand in ``Scripted.calls``."""
    monkeypatch.setitem(ENGINES, "scripted", Scripted)

    def make(script: Script, *, structured: bool = False, **fields: Any) -> Llm:
        Scripted.script, Scripted.structured, Scripted.calls = staticmethod(script), structured, []
        return Llm(engine="scripted", model=str(tiny_model), **fields)

    return make


@pytest.fixture
def calls() -> Callable[[], list[dict[str, Any]]]:
    return lambda: Scripted.calls
