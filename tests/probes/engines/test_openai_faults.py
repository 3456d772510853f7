"""Servers fail in every way and nothing is lost; a key is shown nowhere."""

from __future__ import annotations

import logging
import runpy
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from composer.encode import load_tokenizer
from composer.errors import ComposerError, FaultError, ModelError, SpecError
from composer.types import ModelRef
from probes.engines.openai import OpenAI
from probes.engines.replicas import _seconds

FAKE = runpy.run_path(str(Path(__file__).with_name("openai_server.py")))
KEY = "sk-very-secret-1234567890"
ERROR = (500, {}, '\n{"error": "out of luck"}\nsecond line')
PROMPTS = [[token] for token in range(20, 60)]
QUICK = {"pause": 0.01, "batch_size": 2, "timeout": 5.0, "max_wait": 5.0}


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return load_tokenizer(tiny_model)


@pytest.fixture
def ref(tiny_model: Path) -> ModelRef:
    return ModelRef(path=str(tiny_model))


@pytest.fixture
def serve(tokenizer: Any) -> Iterator[Callable[..., Any]]:
    running = []

    def start(**how: Any) -> Any:
        running.append(FAKE["Server"](FAKE["table"](len(tokenizer)), tokenizer, **how))
        running[-1].start()
        return running[-1]

    yield start
    for server in running:
        server.stop()


def complete(session: Any) -> list[Any]:
    return session.complete(PROMPTS, max_new_tokens=5, seed=7)


@pytest.fixture
def want(serve: Callable[..., Any], ref: ModelRef) -> list[Any]:
    """What comes when nothing goes wrong."""
    with OpenAI(base_urls=serve().url).open(ref) as session:
        return complete(session)


@pytest.mark.parametrize(
    "faults",
    [[ERROR] * 4, ["cut"] * 4, [(429, {}, "slow down")] * 6, [(503, {}, "")] * 6, [(200, {}, "<html>")] * 4],
    ids=["500", "cut", "429", "503", "no-json"],
)
def test_what_broke_is_asked_again(serve: Callable[..., Any], ref: ModelRef, want: list[Any], faults: list[Any]) -> None:
    server = serve()
    with OpenAI(base_urls=server.url, **QUICK).open(ref) as session:
        server.faults = list(faults)
        assert complete(session) == want
        assert not server.faults
        server.faults = list(faults)
        assert len(session.score([[5, 6]] * 20)) == 20


def test_after_the_last_attempt_the_error_says_where_and_what(serve: Callable[..., Any], ref: ModelRef) -> None:
    server = serve()
    with OpenAI(base_urls=server.url, retries=2, concurrency=1, **QUICK).open(ref) as session:
        server.faults = [ERROR] * 3
        message = (
            f"a request broke each time; expected an answer in 3 attempts .*; got {server.url}/completions: status 500, "
            '{"error": "out of luck"}$'
        )
        with pytest.raises(FaultError, match=message):
            complete(session)
        assert not server.faults
        assert len(complete(session)) == len(PROMPTS)  # the session goes on


@pytest.mark.parametrize("date", [False, True])
def test_a_server_is_left_alone_for_as_long_as_it_asks(serve: Callable[..., Any], ref: ModelRef, date: bool) -> None:
    server = serve()
    after = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True) if date else "0.6"
    with OpenAI(base_urls=server.url, **QUICK).open(ref) as session:
        server.faults = [(429, {"Retry-After": after}, "slow down")]
        begun = time.monotonic()
        complete(session)
        assert 0.6 <= time.monotonic() - begun < 5


def test_a_wait_beyond_max_wait_is_not_begun(serve: Callable[..., Any], ref: ModelRef) -> None:
    server = serve()
    with OpenAI(base_urls=server.url, concurrency=1, **QUICK).open(ref) as session:
        server.faults = [(429, {"Retry-After": "3600"}, "quota")]
        begun = time.monotonic()
        with pytest.raises(FaultError, match=r"no server answers; expected one within 5 s .*status 429, quota"):
            complete(session)
        assert time.monotonic() - begun < 2


def test_a_server_may_be_gone_for_a_while(serve: Callable[..., Any], ref: ModelRef, want: list[Any], said: list[str]) -> None:
    server = serve(takes=0.02)
    with OpenAI(base_urls=server.url, concurrency=4, **QUICK).open(ref) as session:
        server.bodies.clear()
        threading.Timer(0.08, server.stop).start()
        threading.Timer(1.0, server.start).start()
        assert complete(session) == want
    assert 0 < len(server.bodies) - len(PROMPTS) < 8  # answered, or lost on the way back; the greeting is counted too
    assert len(said) == 2
    assert said[0].startswith("no server answers (http://127.0.0.1")
    assert said[0].endswith("waiting for up to 5 s")
    assert said[1].startswith(f"{server.url} answers again after ")


def test_a_server_that_stays_away_is_given_up(serve: Callable[..., Any], ref: ModelRef) -> None:
    server = serve()
    with OpenAI(base_urls=server.url, **(QUICK | {"max_wait": 0.4})).open(ref) as session:
        server.stop()
        begun = time.monotonic()
        with pytest.raises(FaultError, match=r"no server answers; expected one within 0.4 s .*ConnectError.*engine.base_urls"):
            complete(session)
        assert 0.1 < time.monotonic() - begun < 2


def test_a_server_that_comes_back_as_another_is_refused(serve: Callable[..., Any], ref: ModelRef) -> None:
    server = serve()
    with OpenAI(base_urls=server.url, **QUICK).open(ref) as session:
        server.stop()
        server.models = ("another",)
        threading.Timer(0.2, server.start).start()
        with pytest.raises(ModelError, match="does not hold this model; expected one of another; got tiny"):
            complete(session)


def test_replicas_share_the_work(serve: Callable[..., Any], ref: ModelRef, want: list[Any]) -> None:
    servers = [serve(takes=0.01) for _ in range(3)]
    with OpenAI(base_urls=[server.url for server in servers], concurrency=6, **QUICK).open(ref) as session:
        assert complete(session) == want
    assert min(len(server.bodies) for server in servers) > len(PROMPTS) // 6


def test_a_dead_replica_is_done_without(serve: Callable[..., Any], ref: ModelRef, want: list[Any], said: list[str]) -> None:
    dead, dies, lives = serve(), serve(takes=0.01), serve(takes=0.01)
    dead.stop()
    urls = [server.url for server in (dead, dies, lives)]
    with OpenAI(base_urls=urls, concurrency=6, **QUICK).open(ref) as session:
        threading.Timer(0.05, dies.stop).start()
        assert complete(session) == want
    assert said == []


def test_replicas_that_are_not_alike_are_refused(serve: Callable[..., Any], ref: ModelRef) -> None:
    servers = serve(takes=0.01), serve(takes=0.01, extended=False)
    message = "engine.base_urls: the servers are not alike; expected each to give choices, prompt_logprobs, schema, token_ids; "
    engine = OpenAI(base_urls=[server.url for server in servers], **QUICK)
    with engine.open(ref) as session, pytest.raises(ModelError, match=message):
        complete(session)


def test_a_server_that_says_nothing_times_out(serve: Callable[..., Any], ref: ModelRef, want: list[Any]) -> None:
    server = serve()
    with OpenAI(base_urls=server.url, retries=1, **(QUICK | {"timeout": 0.3})).open(ref) as session:
        server.faults = ["hang"]
        assert complete(session) == want
        server.faults = ["hang"] * 2
        with pytest.raises(FaultError, match=r"broke each time; .*/completions: ReadTimeout"):
            session.score([[5, 6]])


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_more_requests_than_allowed_are_under_way(serve: Callable[..., Any], ref: ModelRef, concurrency: int) -> None:
    server = serve(takes=0.1 * (concurrency > 1))  # long enough for requests to meet on a busy machine, too
    with OpenAI(base_urls=server.url, concurrency=concurrency, **QUICK).open(ref) as session:
        complete(session)
    assert server.peak == concurrency


def test_a_refused_request_is_an_error_at_once(serve: Callable[..., Any], ref: ModelRef) -> None:
    server = serve()
    with OpenAI(base_urls=server.url, concurrency=1, **QUICK).open(ref) as session:
        server.faults = [(400, {}, '{"error": "temperature must be in [0, 2]"}'), ERROR]
        with pytest.raises(ModelError, match=r"the server refuses a request; got .*/completions: status 400, .*temperature"):
            complete(session)
        assert server.faults == [ERROR]


def test_an_answer_of_another_kind_is_refused(serve: Callable[..., Any], ref: ModelRef) -> None:
    server = serve()
    with OpenAI(base_urls=server.url, **QUICK).open(ref) as session:
        for said in ('{"choices": []}', "[1]", '{"error": "no"}', '{"choices": 3}'):
            server.faults = [(200, {}, said)]
            with pytest.raises(ModelError, match="not an answer; expected the answer of a completions API to 1 prompts; got "):
                session.score([[5, 6]])


def test_an_interrupt_ends_what_is_under_way(serve: Callable[..., Any], ref: ModelRef) -> None:
    server = serve()
    begun = time.monotonic()

    def ask() -> None:
        nonlocal asked
        with OpenAI(base_urls=server.url, **QUICK).open(ref) as session:
            server.faults = ["hang"]
            asked = session._replicas._portal.start_task_soon(session._replicas._answer, "completions", {})
            time.sleep(0.2)
            raise KeyboardInterrupt

    asked: Any = None
    with pytest.raises(KeyboardInterrupt):
        ask()
    assert asked.cancelled()
    assert time.monotonic() - begun < 3


def test_the_key_is_sent_and_shown_nowhere(
    serve: Callable[..., Any], ref: ModelRef, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str], said: list[str],
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    server = serve()
    engine = OpenAI(base_urls=server.url, api_key_env="MY_KEY", retries=0, concurrency=1, **QUICK)
    shown = [repr(engine), str(engine.identity()), engine.model_dump_json()]
    with engine.open(ref) as session:
        assert server.headers["Authorization"] == f"Bearer {KEY}"
        shown += [repr(session), repr(vars(session)), repr(session._replicas), repr(session._terms)]
        for status in (400, 401, 500):
            server.faults = [(status, {}, f"wrong key {KEY}, {'x' * 400}")]
            with pytest.raises(ComposerError, match=rf"status {status}, wrong key \*\*\*") as caught:
                complete(session)
            shown += [str(caught.getrepr(style="long")), repr(caught.value)]
            if status == 401:
                assert "engine.api_key_env names" in str(caught.value)
    out, err = capfd.readouterr()
    for text in [*shown, *said, caplog.text, out, err]:
        assert KEY not in text
        assert KEY[:12] not in text


def test_without_a_key_none_is_sent(serve: Callable[..., Any], ref: ModelRef, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server = serve()
    with OpenAI(base_urls=server.url).open(ref):
        assert "Authorization" not in server.headers


def test_a_key_that_is_not_there_or_not_a_key_is_an_error(ref: ModelRef, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"engine.api_key_env: no such variable in the environment; got NO_SUCH_KEY"):
        OpenAI(api_key_env="NO_SUCH_KEY").open(ref).__enter__()  # pragma: allowlist secret
    monkeypatch.setenv("ODD_KEY", "se\ncret-é")
    with pytest.raises(
        ModelError, match="environment variable ODD_KEY: the key has characters that no header carries"
    ) as caught:
        OpenAI(api_key_env="ODD_KEY").open(ref).__enter__()  # pragma: allowlist secret
    assert "cret" not in str(caught.value)
    with pytest.raises(SpecError, match="api_key_env: not the name of a variable") as caught:
        OpenAI(api_key_env=KEY)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(("said", "seconds"), [("7", 7.0), ("0.5", 0.5), ("-3", 0.0), ("", 0.0), ("soon", 0.0)])
def test_a_retry_after_header_is_read(said: str, seconds: float) -> None:
    assert _seconds(said) == seconds
