"""A network with a mixture chooses by the prompt, once, and keeps its choice while it writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from composer.errors import FaultError
from composer.train.mola import mixture as module

Mixed = Callable[..., Any]
PROMPTS = [[5, 9, 11], [40, 41, 42, 43, 44, 45, 46], [71, 8], [90, 80, 70, 60, 50], [33, 12, 77, 21]]
DECISIONS = ("shared", "vote", "per_layer")


def laid(prompts: list[list[int]], *, left: bool = False, more: int = 0) -> dict[str, torch.Tensor]:
    width = max(map(len, prompts)) + more
    ids, mask = torch.zeros(2, len(prompts), width, dtype=torch.int64)
    for i, prompt in enumerate(prompts):
        place = slice(width - len(prompt), width) if left else slice(0, len(prompt))
        ids[i, place], mask[i, place] = torch.tensor(prompt), 1
    return {"input_ids": ids, "attention_mask": mask}


def logits(network: Any, **given: Any) -> torch.Tensor:
    with torch.no_grad():
        return network(**given).logits


@pytest.mark.parametrize("decision", DECISIONS)
def test_a_choice_is_of_the_row_alone(kind: str, decision: str, mixed: Mixed) -> None:
    mixture = mixed(kind, decision=decision)[0].mixture
    together = mixture.route(PROMPTS)
    assert len(set(map(tuple, together.experts.T.tolist()))) > 1  # the rows do not all choose the same
    for row, prompt in enumerate(PROMPTS):
        alone = mixture.route([prompt])
        assert alone.experts[:, 0].tolist() == together.experts[:, row].tolist()
        torch.testing.assert_close(alone.log_probs[:, 0], together.log_probs[:, row])
    order = [3, 0, 4, 1, 2]
    assert torch.equal(mixture.route([PROMPTS[row] for row in order]).experts, together.experts[:, order])


@pytest.mark.parametrize("decision", DECISIONS)
def test_padding_and_answers_do_not_change_a_choice(kind: str, decision: str, mixed: Mixed) -> None:
    network = mixed(kind, decision=decision)[0]
    mixture, batch = network.mixture, laid(PROMPTS)
    expected = mixture.route(PROMPTS).experts
    for more in (0, 5):
        logits(network, **laid(PROMPTS, more=more))
        assert torch.equal(mixture.routing.experts, expected)
    if kind != "gpt2":  # whose positions are absolute, so that a caller has to count them
        logits(network, **laid(PROMPTS, left=True))
        assert torch.equal(mixture.routing.experts, expected)
    answered = {
        "input_ids": torch.cat([batch["input_ids"], torch.full((5, 3), 17)], 1),
        "attention_mask": torch.cat([batch["attention_mask"], torch.ones(5, 3, dtype=torch.int64)], 1),
    }
    labels = torch.cat([torch.full_like(batch["input_ids"], -100), torch.full((5, 3), 17)], 1)
    logits(network, **answered, labels=labels)
    assert torch.equal(mixture.routing.experts, expected)


@pytest.mark.parametrize("decision", DECISIONS)
def test_it_is_decided_once_and_kept_while_writing(
    kind: str, decision: str, mixed: Mixed, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = mixed(kind, decision=decision)[0]
    expected, calls = network.mixture.route(PROMPTS).experts, []

    def counted(*given: Any, **more: Any) -> Any:
        calls.append(0)
        return decide(*given, **more)

    decide = module.decide
    monkeypatch.setattr(module, "decide", counted)
    given = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    written = network.generate(**laid(PROMPTS, left=True), **given)
    assert len(calls) == (2 if decision == "per_layer" else 1)  # of two blocks
    assert torch.equal(network.mixture.routing.experts, expected)
    for row, prompt in enumerate(PROMPTS):  # without a cache, and with the experts told
        ids = list(prompt)
        for _ in range(6):
            network.mixture.take(expected[:, [row]])
            last = logits(network, input_ids=torch.tensor([ids]), use_cache=False)[0, -1]
            last[3] = -torch.inf  # the end token, as min_new_tokens has it
            ids.append(int(last.argmax()))
        assert written[row, -6:].tolist() == ids[-6:]


def test_beams_keep_the_choice_of_their_prompt(mixed: Mixed) -> None:
    network = mixed("llama")[0]
    network.generate(**laid(PROMPTS, left=True), max_new_tokens=4, num_beams=2, do_sample=False)
    assert torch.equal(network.mixture.routing.experts, network.mixture.route(PROMPTS).experts.repeat_interleave(2, 1))


def test_the_first_router_speaks_for_all_blocks(mixed: Mixed) -> None:
    shared = mixed("llama", decision="shared")[0].mixture.route(PROMPTS)
    layers = mixed("llama", decision="per_layer")[0].mixture.route(PROMPTS)
    assert torch.equal(shared.experts[0], layers.experts[0])
    assert torch.equal(shared.experts[0], shared.experts[1])
    assert not torch.equal(layers.experts[0], layers.experts[1])


def test_a_vote_reads_the_base_alone(mixed: Mixed) -> None:
    network = mixed("llama", decision="vote")[0]
    before = network.mixture.route(PROMPTS).log_probs
    with torch.no_grad():
        for parameter in network.mixture.bank.parameters():
            parameter.mul_(3.0)
    assert torch.equal(network.mixture.route(PROMPTS).log_probs, before)


def test_below_the_threshold_the_base_answers(mixed: Mixed, make: Callable[[str], Any]) -> None:
    network = mixed("llama", threshold=0.9, weight=0.01)[0]
    batch = laid(PROMPTS[:1])
    assert torch.equal(logits(network, **batch), logits(make("llama"), **batch))
    assert network.mixture.routing.experts.tolist() == [[-1], [-1]]


def test_a_single_expert_needs_no_router(mixed: Mixed) -> None:
    network = mixed("llama", names=("code",))[0]
    assert network.mixture.routers is None
    assert network.mixture.route(PROMPTS).experts.tolist() == [[0] * 5] * 2
    told = mixed("llama")[0]
    told.mixture.take(torch.full((5,), 2))
    assert torch.equal(logits(network, **laid(PROMPTS)), logits(told, **laid(PROMPTS)))


def test_a_cache_of_other_rows_is_refused(mixed: Mixed) -> None:
    network = mixed("llama")[0]
    with torch.no_grad():
        cache = network(**laid(PROMPTS), use_cache=True).past_key_values
    cache.reorder_cache(torch.tensor([0, 1]))
    with pytest.raises(FaultError, match="the cache is of other rows than were routed; expected 5 rows; got 2"):
        network(input_ids=torch.tensor([[5], [6]]), past_key_values=cache)


def test_a_mask_that_hides_what_is_padding_is_refused(mixed: Mixed) -> None:
    with pytest.raises(FaultError, match="cannot tell a prompt from padding"):
        mixed("llama")[0](input_ids=torch.tensor([[5, 6]]), attention_mask=torch.zeros(1, 1, 2, 2))
