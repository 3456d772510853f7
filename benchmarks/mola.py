"""A batch of several LoRAs against a batch of one: forward and backward, in the bank and in peft.

A random Llama of 5.26 million parameters in float32 on one thread, 8 rows of 256 tokens, LoRAs of rank 8 on all linear maps,
four experts of which every row of the mixed batch takes one; ``--cuda`` puts them on a GPU, and ``--large`` takes 273 million
parameters and rows of 2,048 tokens. Theirs is peft with one LoRA for the whole batch. Before the clock starts the bank's losses
and gradients are compared with those of peft on the rows of each expert alone.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from _harness import DEVICE, LARGE, QUICK, compare
from peft import PeftModel
from transformers import LlamaConfig, LlamaForCausalLM

from composer.train.adapters.lora import Lora
from composer.train.mola.bank import Bank, read_expert

VOCAB, HIDDEN, INTERMEDIATE, LAYERS = (512, 64, 172, 2) if QUICK else (32_768, 2048, 5632, 4) if LARGE else (8192, 256, 688, 4)
HEADS = max(4, HIDDEN // 64)
ROWS, LENGTH, RANK, EXPERTS = 8, 64 if QUICK else 2048 if LARGE else 256, 8, 4
CLOSE = 1e-4


def network() -> Any:
    """Return the base, the same at every call."""
    torch.manual_seed(11)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=HIDDEN, intermediate_size=INTERMEDIATE, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=HEADS, max_position_embeddings=LENGTH, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config).train().to(DEVICE)


def experts(folder: Path) -> dict[str, Path]:
    """Write LoRAs whose updates are not zero."""
    spec, found = Lora(rank=RANK, alpha=2 * RANK), {}
    for i in range(EXPERTS):
        model = spec.attach(network(), previous=None, seed=i)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
        spec.save(model, None, folder / str(i))
        found[str(i)] = folder / str(i) / "adapter"
    return found


def passed(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Take a loss and its gradient; return the loss of every row."""
    model.zero_grad()
    logits = model(input_ids=ids, use_cache=False).logits
    losses = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none").mean(1)
    losses.sum().backward()
    return losses.detach()


def alike(bank: Bank, i: int, single: Any) -> bool:
    """Return whether expert ``i`` has the gradients that its LoRA has alone."""
    theirs = dict(single.named_parameters())
    pairs = [
        (parts[i].grad, theirs[f"base_model.model.{place}.lora_{letter}.default.weight"].grad)
        for place, banked in bank.maps.items()
        for letter, parts in (("A", banked.A), ("B", banked.B))
    ]
    return all(torch.allclose(one, other, atol=CLOSE, rtol=1e-3) for one, other in pairs)


def main() -> None:
    """Compare losses and gradients once, then time both in turns."""
    torch.set_num_threads(1)
    ids = torch.randint(VOCAB, (ROWS, LENGTH), generator=torch.Generator().manual_seed(1)).to(DEVICE)
    taken, same = torch.arange(ROWS, device=DEVICE) % EXPERTS, True
    with tempfile.TemporaryDirectory() as folder:
        written = experts(Path(folder))
        mixed = network()
        bank = Bank(mixed, {name: read_expert(path, name=name) for name, path in written.items()})
        bank.take(taken)
        ours = passed(mixed, ids)
        for i, path in enumerate(written.values()):
            single = PeftModel.from_pretrained(network(), path, is_trainable=True)
            same &= torch.allclose(passed(single, ids[taken == i]), ours[taken == i], atol=CLOSE) and alike(bank, i, single)
    sizes = {"rows": ROWS, "tokens": LENGTH, "rank": RANK, "experts": EXPERTS, "hidden": HIDDEN, "layers": LAYERS}
    compare(
        "mola_large" if LARGE else "mola", ours=lambda: passed(mixed, ids), theirs=lambda: passed(single, ids),
        same=lambda *_: same, target=1.3, better="lower", sizes=sizes, repeats=9,
    )  # fmt: skip


if __name__ == "__main__":
    main()
