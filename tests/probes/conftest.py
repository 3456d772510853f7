"""What the probes' tests share: a tiny Llama with random weights, made once per test run, and what is said to a user."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from composer.progress import Silence, listener
from composer.types import ModelRef
from probes.engines import Session
from probes.engines.hf import Hf

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>"]
CORPUS = [
    "the court ruled that the contract was void and the tenant must pay the rent",
    "the patient was given a dose of the medicine and the fever fell over night",
    "write a function that sorts a list of numbers and returns the largest one",
    "user assistant system question answer explain translate name the capital",
]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "tiny"
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=256, bos_token_id=0, eos_token_id=1, pad_token_id=2,
        initializer_range=0.3,  # wide enough for uneven distributions
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(11)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def session(tiny_model: Path) -> Iterator[Session]:
    with Hf().open(ModelRef(path=str(tiny_model))) as opened:
        yield opened


class Ear(Silence):
    """A listener that keeps every line."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def said() -> Iterator[list[str]]:
    token = listener.set(ear := Ear())
    yield ear.lines
    listener.reset(token)
