"""A training pass whose output layer sees trained tokens alone, against the same pass with the logits of every token.

A random Llama with a vocabulary of 32,768 and 5.9 million further parameters, float32 on one thread; a batch of 8 rows of 256
tokens, padded, of which an eighth are trained on, as answers are. Theirs takes from the model's logits those of the trained
tokens, as our trainer did; ours never makes the others. Both go there and back, every turn in a process of its own, so that
peak memory can be told: of the whole process, imports and model among it. Losses must be equal to 1e-5 nats, the gradients'
norms to 1e-4 of theirs.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from _harness import QUICK, race, tell

from composer.encode import Encoding
from composer.spec import rng
from composer.train.batches import Row
from composer.train.layout import IGNORED, padded, token_losses

VOCAB, HIDDEN, LAYERS = (512, 64, 1) if QUICK else (32_768, 384, 4)
ROWS, LENGTH, TRAINED, PASSES = (4, 32, 4, 1) if QUICK else (8, 256, 32, 4)
SEED = 11
Found = tuple[list[float], float]  # the losses of the trained tokens, and the norm of the gradient


def network() -> Any:
    """Return the model, the same in every process."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=HIDDEN, intermediate_size=2 * HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=4,
        num_key_value_heads=4, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def batch() -> dict[str, torch.Tensor]:
    """Return rows whose last tokens are trained on."""
    ids = rng(SEED, "benchmark", "output layer").integers(VOCAB, size=(ROWS, LENGTH))
    trained = (*(False,) * (LENGTH - TRAINED), *(True,) * TRAINED)
    return padded([Row.of(str(i), 0, Encoding(tuple(map(int, row)), trained)) for i, row in enumerate(ids)])


def all_logits(model: Any, given: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the losses of the trained tokens out of the logits of all."""
    following = torch.nn.functional.pad(given["labels"][:, 1:], (0, 1), value=IGNORED).flatten()
    places = (following != IGNORED).nonzero().squeeze(1)
    logits = model(input_ids=given["input_ids"], attention_mask=given["attention_mask"], use_cache=False).logits
    chosen = logits.flatten(0, 1).index_select(0, places)
    return torch.nn.functional.cross_entropy(chosen.float(), following[places], reduction="none")


def there_and_back(losses_of: Any) -> Found:
    """Take the gradient a few times and return the last losses and the gradient's norm."""
    torch.set_num_threads(1)
    model, given = network(), batch()
    for _ in range(PASSES):
        model.zero_grad()
        losses = losses_of(model, given)
        losses.mean().backward()
    norm = torch.linalg.vector_norm(torch.stack([each.grad.norm() for each in model.parameters()]))
    return losses.tolist(), float(norm)


def same(one: Found, two: Found) -> bool:
    """Say whether losses and gradients are equal to rounding."""
    return max(abs(a - b) for a, b in zip(one[0], two[0], strict=True)) <= 1e-5 and abs(one[1] - two[1]) <= 1e-4 * two[1]


def main() -> None:
    """Run both sides in turns and tell."""
    sides = {"ours": partial(there_and_back, token_losses), "all logits": partial(there_and_back, all_logits)}
    found = race("output layer", sides, same=same, imports=dict.fromkeys(sides, ("transformers.models.llama",)))
    sizes = {"vocabulary": VOCAB, "hidden": HIDDEN, "layers": LAYERS, "rows": ROWS, "tokens": LENGTH, "trained": TRAINED}
    ratios = [
        found.ratio("seconds over all logits", "ours", "all logits", target=0.6),
        found.ratio("peak memory over all logits", "ours", "all logits", of="peak", target=0.7),
    ]
    tell("output_layer", ratios, equal=found.equal, sizes=sizes, costs={"a pass": found.medians()})


if __name__ == "__main__":
    main()
