"""What a server with a known model answers comes back exactly, whichever way the server can say it."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from composer.encode import load_tokenizer
from composer.errors import InputError, ModelError, SpecError
from composer.types import ModelRef
from probes.engines.openai import OpenAI
from probes.engines.served import ServedSession

FAKE = runpy.run_path(str(Path(__file__).with_name("openai_server.py")))
LIMIT = 64
WAYS = {"vllm": {}, "plain": {"extended": False}}
"""With vLLM's extensions, and as a server without them."""


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return load_tokenizer(tiny_model)


@pytest.fixture(scope="module")
def exact(tokenizer: Any) -> np.ndarray:
    """Row i holds the log-probabilities of what follows token i."""
    n = len(tokenizer)
    return FAKE["table"](n)(list(range(n)))


@contextmanager
def served(tokenizer: Any, **how: Any) -> Iterator[Any]:
    server = FAKE["Server"](FAKE["table"](len(tokenizer)), tokenizer, **{"limit": LIMIT, **how})
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module", params=sorted(WAYS))
def session(request: pytest.FixtureRequest, tokenizer: Any, tiny_model: Path) -> Iterator[ServedSession]:
    with (
        served(tokenizer, **WAYS[request.param]) as server,
        OpenAI(base_urls=server.url, batch_size=5).open(ModelRef(path=str(tiny_model))) as opened,
    ):
        yield opened


@pytest.fixture(scope="module")
def sequences() -> list[list[int]]:
    random = np.random.default_rng(5)
    return [random.integers(5, 300, size=n).tolist() for n in (7, 1, 30, 2, 12, 30, 19, 3, 1, 44, 8)]


def logprobs(exact: np.ndarray, ids: list[int]) -> np.ndarray:
    return exact[ids[:-1], ids[1:]]


def test_scores_are_those_of_the_model(session: ServedSession, exact: np.ndarray, sequences: list[list[int]]) -> None:
    best = exact.argmax(axis=1).tolist()
    chain = [9]
    while len(chain) < 6:
        chain.append(best[chain[-1]])
    for ids, score in zip([*sequences, chain], session.score([*sequences, chain]), strict=True):
        assert score.logprob == pytest.approx(logprobs(exact, ids), abs=1e-12)
        assert score.top.tolist() == [best[a] == b for a, b in pairwise(ids)]
        assert (score.logprob.dtype, score.top.dtype) == (np.float64, np.bool_)
    assert session.score([chain])[0].top.all()


def test_choices_are_weighed_over_the_whole_vocabulary(
    session: ServedSession, exact: np.ndarray, sequences: list[list[int]]
) -> None:
    choices = [7, 250, 0, 31]
    want = np.array([exact[ids[-1], choices] for ids in sequences])
    assert session.choose(sequences, choices) == pytest.approx(want, abs=1e-12)
    assert session.choose([], choices).shape == (0, 4)


def test_many_choices_are_weighed_in_parts(tokenizer: Any, tiny_model: Path, exact: np.ndarray) -> None:
    choices = list(range(len(tokenizer)))[::-1]
    with served(tokenizer) as server, OpenAI(base_urls=server.url).open(ModelRef(path=str(tiny_model))) as session:
        assert session.choose([[3, 4], [9]], choices) == pytest.approx(exact[[4, 9]][:, choices], abs=1e-12)
        assert max(len(body.get("logprob_token_ids", [])) for body in server.bodies) <= 128


def test_greedy_takes_the_most_likely_token_each_time(session: ServedSession, exact: np.ndarray) -> None:
    prompts = [[token] for token in range(40, 63)]
    end = session.tokenizer.eos_token_id
    for prompt, made in zip(prompts, session.complete(prompts, max_new_tokens=6, temperature=0, seed=0), strict=True):
        want = [*prompt]
        while len(want) < 7 and want[-1] != end:
            want.append(int(exact[want[-1]].argmax()))
        assert made.text == session.tokenizer.decode(want[1:], skip_special_tokens=True)
        assert made.finished == (want[-1] == end)
        if "token_ids" in session._offers:
            assert list(made.ids) == want[1:]


def test_samples_come_from_the_exact_distribution(session: ServedSession, exact: np.ndarray) -> None:
    n = 1000
    made = session.complete([[9]] * n, max_new_tokens=1, seed=17)
    if "token_ids" in session._offers:
        seen = np.bincount([completion.ids[0] for completion in made], minlength=len(exact))
        names = list(range(len(exact)))
    else:  # only texts are known, so tokens of one text count as one
        texts = [session.tokenizer.decode([token], skip_special_tokens=True) for token in range(len(exact))]
        names = sorted(set(texts))
        seen = np.array([sum(completion.text == name for completion in made) for name in names])
        exact = np.log([[np.exp(exact[9])[[text == name for text in texts]].sum() for name in names]] * 10)
    expected = n * np.exp(exact[9])
    often = expected >= 5
    observed, expected = np.append(seen[often], seen[~often].sum()), np.append(expected[often], expected[~often].sum())
    assert len(names) > often.sum() > 20
    assert chisquare(observed, expected * n / expected.sum()).pvalue > 1e-3
    assert chisquare(observed[::-1], expected * n / expected.sum()).pvalue < 1e-6


def test_every_prompt_has_a_seed_of_its_own(tokenizer: Any, tiny_model: Path) -> None:
    made = []
    for more in ({}, {"batch_size": 3, "concurrency": 2}):
        with served(tokenizer) as server, OpenAI(base_urls=server.url, **more).open(ModelRef(path=str(tiny_model))) as session:
            made.append(session.complete([[9]] * 20, max_new_tokens=8, seed=3))
            seeds = {body["seed"] for body in server.bodies if "seed" in body}
            assert len(seeds) == 20
            assert max(seeds) < 2**31
            assert session.complete([[9]] * 20, max_new_tokens=8, seed=4) != made[0]
    assert made[0] == made[1]
    assert len({completion.ids for completion in made[0]}) == 20


def test_a_server_is_told_to_draw_from_the_whole_distribution(tokenizer: Any, tiny_model: Path) -> None:
    with served(tokenizer) as server, OpenAI(base_urls=server.url).open(ModelRef(path=str(tiny_model))) as session:
        session.complete([[9]], max_new_tokens=2, temperature=0.7, seed=3)
        want = {"top_p": 1, "top_k": 0, "min_p": 0, "repetition_penalty": 1, "presence_penalty": 0, "frequency_penalty": 0}
        assert want | {"temperature": 0.7, "max_tokens": 2} == {
            name: server.bodies[-1].get(name) for name in [*want, "temperature", "max_tokens"]
        }
        assert server.bodies[-1]["stop_token_ids"] == [tokenizer.eos_token_id]


def test_prompts_are_sent_in_batches_where_nothing_is_drawn(tokenizer: Any, tiny_model: Path) -> None:
    engine = {"batch_size": 8}
    with served(tokenizer) as server, OpenAI(base_urls=server.url, **engine).open(ModelRef(path=str(tiny_model))) as session:
        before = server.seen["/v1/completions"]
        session.score([[5, 6]] * 20)
        session.complete([[5, 6]] * 20, max_new_tokens=2, temperature=0, seed=0)
        assert server.seen["/v1/completions"] - before == 6


def test_completions_are_held_to_a_schema(session: ServedSession) -> None:
    if session.structured:
        made = session.complete([[9], [8]], max_new_tokens=9, seed=0, schema={"enum": ["yes", "no"]})
        assert [completion.text for completion in made] == ['"yes"', '"yes"']
    else:
        with pytest.raises(ModelError, match="the server holds no completion to a schema; serve the model with vLLM"):
            session.complete([[9]], max_new_tokens=9, seed=0, schema={"enum": ["yes"]})


def test_a_sequence_may_fill_the_context(tokenizer: Any, tiny_model: Path, exact: np.ndarray) -> None:
    full = [5, *np.random.default_rng(1).integers(5, 300, size=LIMIT - 2).tolist()]
    ends = [int(exact[full[-1]].argmax()), int(exact[full[-1]].argmin())]
    with served(tokenizer) as server, OpenAI(base_urls=server.url).open(ModelRef(path=str(tiny_model))) as session:
        for last, score in zip(ends, session.score([[*full, end] for end in ends]), strict=True):
            assert score.logprob == pytest.approx(logprobs(exact, [*full, last]), abs=1e-12)
            assert score.top[-1] == (last == ends[0])
        with pytest.raises(ModelError, match=f"at most {LIMIT}; got {LIMIT + 1} tokens"):
            session.score([[*full, 5, 5]])
        with pytest.raises(ModelError, match=f"at most {LIMIT}; got {LIMIT} tokens and 1 to come"):
            session.choose([[*full, 5]], [1, 2])


def test_progress_reaches_whoever_listens(tokenizer: Any, tiny_model: Path, heard: Any) -> None:
    with (
        served(tokenizer) as server,
        OpenAI(base_urls=server.url, batch_size=4).open(ModelRef(path=str(tiny_model))) as session,
    ):
        session.score([[5, 6]] * 10)
        assert (heard.done, heard.total) == (10, 10)
    assert heard.lines == []


def test_a_completion_that_the_server_cuts_is_refused(tokenizer: Any, tiny_model: Path) -> None:
    with served(tokenizer) as server, OpenAI(base_urls=server.url).open(ModelRef(path=str(tiny_model))) as session:
        whole = server.choice
        server.choice = lambda index, prompt, body: whole(index, prompt, {**body, "max_tokens": 3})
        with pytest.raises(ModelError, match="the server cut a completion; expected 9 tokens; got 3"):
            session.complete([[9]] * 5, max_new_tokens=9, seed=1)


def test_a_server_without_log_probabilities_of_prompts_still_completes(tokenizer: Any, tiny_model: Path, heard: Any) -> None:
    how = {"extended": False, "scores": False}
    with served(tokenizer, **how) as server, OpenAI(base_urls=server.url).open(ModelRef(path=str(tiny_model))) as session:
        assert "whether its vocabulary is the model's cannot be seen" in heard.lines[0]
        assert len(session.complete([[9]] * 3, max_new_tokens=4, seed=1)) == 3
        with pytest.raises(ModelError, match="gives no log-probabilities of a prompt; use a server that gives them"):
            session.score([[5, 6]])


@pytest.mark.parametrize("way", sorted(WAYS))
def test_another_vocabulary_is_refused(tiny_model: Path, way: str) -> None:
    other = load_tokenizer(tiny_model)
    other.add_tokens(["contract", "def"])
    with served(other, **WAYS[way]) as server:
        if way == "plain":  # the same ids, which read otherwise
            other.decode = lambda ids, **_: " ".join(f"<{token}>" for token in ids)
        with pytest.raises(
            ModelError, match=r"the server's vocabulary is another \(tiny\); expected .*; got .*; serve the model"
        ):
            OpenAI(base_urls=server.url).open(ModelRef(path=str(tiny_model))).__enter__()


@pytest.mark.parametrize(
    ("models", "model", "message"),
    [
        ((), None, "which of the server's models.; expected a server that lists a model; got none named"),
        (("b", "a"), None, "engine.model: which of the server's models.; expected one of a, b; got none named"),
        (("b", "a"), "c", "engine.model: the server does not hold this model; expected one of a, b; got c"),
    ],
)
def test_a_model_must_be_named_and_held(
    tokenizer: Any, tiny_model: Path, models: tuple[str, ...], model: str | None, message: str
) -> None:
    with served(tokenizer, models=models) as server, pytest.raises(ModelError, match=message):
        OpenAI(base_urls=server.url, model=model).open(ModelRef(path=str(tiny_model))).__enter__()


def test_one_of_several_models_is_asked_by_name(tokenizer: Any, tiny_model: Path) -> None:
    with served(tokenizer, models=("a", "b")) as server:
        with OpenAI(base_urls=server.url, model="b").open(ModelRef(path=str(tiny_model))) as session:
            session.complete([[9]], max_new_tokens=1, seed=0)
        assert server.bodies[-1]["model"] == "b"


def test_an_adapter_is_served_and_not_sent(tiny_model: Path) -> None:
    with pytest.raises(
        ModelError, match=r"an adapter cannot be sent to a server; got /a; serve it .*--lora-modules.*engine.model"
    ):
        OpenAI().open(ModelRef(path=str(tiny_model), adapter="/a")).__enter__()


def test_input_that_cannot_be_used_is_refused(session: ServedSession) -> None:
    with pytest.raises(InputError, match="sequence 1: a sequence without tokens"):
        session.score([[1, 2], []])
    with pytest.raises(InputError, match="outside the vocabulary; expected 0 to"):
        session.complete([[10**6]], max_new_tokens=1, seed=0)
    with pytest.raises(InputError, match="distinct tokens"):
        session.choose([[5]], [4, 4])


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "ftp://a/v1",
        "http://",
        "http://u:hunter2@a/v1",  # pragma: allowlist secret
        "http://a/v1?key=hunter2",
        "http://a:99999/v1",
        "http://a b",
    ],
)
def test_an_address_is_checked_and_no_secret_in_it_is_shown(url: str) -> None:
    with pytest.raises(SpecError, match="base_urls: not the address of a server; expected http") as caught:
        OpenAI(base_urls=("http://fine:1/v1", url))
    assert "hunter2" not in str(caught.value)


def test_the_api_is_found_beneath_a_server(tokenizer: Any, tiny_model: Path) -> None:
    with served(tokenizer) as server:
        for url in (server.url, server.url + "/", server.url.removesuffix("/v1")):
            with OpenAI(base_urls=url).open(ModelRef(path=str(tiny_model))) as session:
                assert session._offers == {"token_ids", "prompt_logprobs", "choices", "schema"}
