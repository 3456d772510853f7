"""A model that was never trained, so that any version of transformers makes it, vLLM's among them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from composer.train.tokenizer import learn


def untrained(folder: Path, texts: Sequence[str]) -> str:
    """Write a model of two blocks with a tokenizer of these texts, and return its path."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = learn(texts, vocab=300)
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=256, bos_token_id=0, eos_token_id=1, pad_token_id=2,
        initializer_range=0.1,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(11)
        LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)
