"""A bank answers as each of its LoRAs alone would, row by row, and moves only those that were taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from composer.errors import FaultError, ModelError, SpecError
from composer.train.adapters.lora import Lora
from composer.train.mola.bank import Bank, read_expert, write_expert

Folders = Callable[..., dict[str, Path]]
Make = Callable[[str], Any]
NAMES = ("law", "medicine", "code")
IDS = torch.arange(5, 85).reshape(5, 16)


def banked(network: Any, folders: dict[str, Path], **fields: Any) -> tuple[Any, Bank]:
    return network, Bank(network, {name: read_expert(folder, name=name) for name, folder in folders.items()}, **fields)


def logits(network: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        return network(input_ids=ids, use_cache=False).logits


def taking(network: Any, bank: Bank, experts: list[int], ids: torch.Tensor = IDS) -> torch.Tensor:
    bank.take(torch.tensor(experts))
    return logits(network, ids)


def test_every_row_to_one_expert_is_that_lora_alone(kind: str, folders: Folders, make: Make) -> None:
    network, bank = banked(make(kind), folders(kind))
    for i, name in enumerate(NAMES):
        own = taking(network, bank, [i] * 5)
        torch.testing.assert_close(own, logits(PeftModel.from_pretrained(make(kind), folders(kind)[name])))
        alone = banked(make(kind), {name: folders(kind)[name]})
        assert torch.equal(own, taking(*alone, [0] * 5))
    assert not torch.allclose(taking(network, bank, [0] * 5), taking(network, bank, [1] * 5), atol=1e-2)


def test_a_rank_stabilised_expert_has_its_own_scale(kind: str, folders: Folders, make: Make) -> None:
    own = folders(kind, expert=Lora(rank=4, alpha=8, rslora=True), names=("law",))
    network, bank = banked(make(kind), own)
    assert {each.scale for each in bank.maps.values()} == {8 / 4**0.5}
    torch.testing.assert_close(taking(network, bank, [0] * 5), logits(PeftModel.from_pretrained(make(kind), own["law"])))
    write_expert(bank.expert("law"), tmp_path := own["law"].parent / "again")
    assert read_expert(tmp_path, name="law").rslora


def test_rows_of_a_mixed_batch_equal_runs_of_one_domain(kind: str, folders: Folders, make: Make) -> None:
    network, bank = banked(make(kind), folders(kind))
    experts = [2, -1, 0, 2, 1]
    mixed = taking(network, bank, experts)
    for row, expert in enumerate(experts):
        torch.testing.assert_close(mixed[row], taking(network, bank, [expert] * 5)[row])
    torch.testing.assert_close(mixed[1], logits(make(kind))[1])


def test_rows_of_a_batch_may_change_places(kind: str, folders: Folders, make: Make) -> None:
    network, bank = banked(make(kind), folders(kind))
    experts, order = torch.tensor([2, -1, 0, 2, 1]), torch.tensor([3, 0, 4, 1, 2])
    there, back = taking(network, bank, experts.tolist()), taking(network, bank, experts[order].tolist(), IDS[order])
    torch.testing.assert_close(there[order], back)


def test_updates_of_zero_and_no_expert_give_the_base_to_the_bit(kind: str, folders: Folders, make: Make) -> None:
    base = logits(make(kind))
    network, bank = banked(make(kind), folders(kind, filled=False))
    for experts in ([0] * 5, [2, -1, 0, 2, 1], [-1] * 5):
        assert torch.equal(taking(network, bank, experts), base)
    network, bank = banked(make(kind), folders(kind))
    assert torch.equal(taking(network, bank, [-1] * 5), base)
    bank.take(None)
    assert torch.equal(logits(network), base)


def test_an_expert_that_no_row_takes_has_no_gradient_and_does_not_decay(kind: str, folders: Folders, make: Make) -> None:
    network, bank = banked(make(kind), folders(kind))
    before = [parameter.detach().clone() for parameter in bank.parameters()]
    bank.take(torch.tensor([2, -1, 0, 2, 2]))
    network(input_ids=IDS, labels=IDS, use_cache=False).loss.backward()
    for banked_map in bank.maps.values():
        for parts in (banked_map.A, banked_map.B):
            assert [part.grad is None for part in parts] == [False, True, False]
            assert all(float(parts[i].grad.abs().sum()) > 0 for i in (0, 2))
    torch.optim.AdamW(bank.parameters(), lr=0.1, weight_decay=0.5).step()
    for i, (old, new) in enumerate(zip(before, bank.parameters(), strict=True)):
        assert torch.equal(old, new) == (i % 3 == 1)
    assert all(parameter.grad is None for name, parameter in network.named_parameters() if ".base." in name)


def test_gradients_of_a_mixed_batch_are_those_of_its_rows(kind: str, folders: Folders, make: Make) -> None:
    def gradients(experts: list[int], rows: list[int]) -> list[torch.Tensor | None]:
        network, bank = banked(make(kind), folders(kind))
        bank.take(torch.tensor(experts))
        network(input_ids=IDS[rows], use_cache=False).logits.square().sum().backward()
        return [parameter.grad for parameter in bank.parameters()]

    mixed = gradients([0, 1, 0, 2, 1], [0, 1, 2, 3, 4])
    for i, own in enumerate((gradients([0, 0], [0, 2]), gradients([1, 1], [1, 4]), gradients([2], [3]))):
        for together, alone in list(zip(mixed, own, strict=True))[i::3]:
            torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)


def test_an_expert_is_written_back_as_peft_reads_it(kind: str, folders: Folders, make: Make, tmp_path: Path) -> None:
    network, bank = banked(make(kind), folders(kind))
    for i, name in enumerate(NAMES):
        write_expert(bank.expert(name), tmp_path / name)
        before, after = (load_file(folder / "adapter_model.safetensors") for folder in (folders(kind)[name], tmp_path / name))
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)
        configs = [json.loads((each / "adapter_config.json").read_text()) for each in (folders(kind)[name], tmp_path / name)]
        assert configs[0] == configs[1]
        again = PeftModel.from_pretrained(make(kind), tmp_path / name)
        torch.testing.assert_close(logits(again), taking(network, bank, [i] * 5))


def test_dropout_is_of_training_only(folders: Folders, make: Make) -> None:
    network, bank = banked(make("llama"), folders("llama"), dropout=0.5)
    first = taking(network, bank, [0, 1, 2, 0, 1])
    assert torch.equal(first, taking(network, bank, [0, 1, 2, 0, 1]))
    network.train()
    assert not torch.equal(first, logits(network))


@pytest.mark.parametrize(("other", "what"), [
    (Lora(rank=2, alpha=4), "rank: the experts are not alike; expected 4 as in law; got 2 in odd"),
    (Lora(rank=4, alpha=4), "alpha: the experts are not alike; expected 8.0 as in law; got 4.0 in odd"),
    (Lora(rank=4, alpha=8, rslora=True), "rslora: the experts are not alike; expected False as in law; got True in odd"),
    (Lora(rank=4, alpha=8, targets=("q_proj",)), "targets: the experts are not alike"),
])  # fmt: skip
def test_experts_that_differ_are_refused_with_their_names(other: Lora, what: str, folders: Folders, make: Make) -> None:
    odd = folders("llama", expert=other, names=("odd",))
    with pytest.raises(SpecError, match=what):
        banked(make("llama"), {"law": folders("llama")["law"], **odd})


def test_experts_of_another_model_are_refused(folders: Folders, make: Make) -> None:
    with pytest.raises(ModelError, match="experts of another model"):
        banked(make("llama"), folders("gpt2"))


def test_experts_of_another_width_are_refused(folders: Folders, make: Make) -> None:
    expert = read_expert(folders("llama")["law"], name="law")
    wide = {place: (torch.zeros(4, 64), pair[1]) for place, pair in expert.parts.items() if "down_proj" in place}
    with pytest.raises(ModelError, match=r"the expert law is of another model; expected 48 in and 32 out; got 64 and 32"):
        Bank(make("llama"), {"law": type(expert)(expert.config, wide)})


@pytest.mark.parametrize("field", ["use_dora", "rank_pattern"])
def test_more_than_a_plain_lora_is_refused(field: str, folders: Folders, tmp_path: Path) -> None:
    expert = read_expert(folders("llama")["law"], name="law")
    write_expert(type(expert)({**expert.config, field: {"q_proj": 2} if "pattern" in field else True}, expert.parts), tmp_path)
    with pytest.raises(ModelError, match=f"the expert law is no plain LoRA.*got {field}"):
        read_expert(tmp_path, name="law")


def test_a_folder_without_a_lora_or_with_a_broken_one_is_refused(folders: Folders, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no LoRA of the expert law.*adapter_config\.json"):
        read_expert(tmp_path, name="law")
    expert = read_expert(folders("llama")["law"], name="law")
    write_expert(expert, tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    tensors.pop(next(key for key in tensors if "lora_B" in key))
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="no LoRA of the expert law: KeyError"):
        read_expert(tmp_path, name="law")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"\0" * 64)
    with pytest.raises(ModelError, match="no LoRA of the expert law"):
        read_expert(tmp_path, name="law")


def test_experts_chosen_for_other_rows_are_refused(folders: Folders, make: Make) -> None:
    network, bank = banked(make("llama"), folders("llama"))
    bank.take(torch.tensor([0, 1, 2]))
    with pytest.raises(FaultError, match="experts were chosen for other rows"):
        logits(network)
