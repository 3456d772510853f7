"""A tokenizer learnt from texts: byte-level BPE with a chat template, the vocabulary of a base model made on the spot.

Bytes are its smallest pieces, so that no text is foreign to it. An answer ends with the end-of-text token, as a document does:
whoever generates stops there and needs to know nothing of the template.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

BOS, EOS, PAD, BEGIN, END = "<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>"
SMALLEST = 256 + 5  # every byte and every special token

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] }}"
    "{{ eos_token if m['role'] == 'assistant' else '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def learn(texts: Iterable[str], *, vocab: int) -> Any:
    """Return a transformers tokenizer of at most ``vocab`` entries learnt from the texts.

    Its first ids are ``<s>``, ``</s>``, ``<pad>`` and the two turn marks; it adds no token by itself.

    Examples
    --------
    >>> tokenizer = learn(["low lower lowest"], vocab=300)
    >>> tokenizer.decode(tokenizer("lower, naïve")["input_ids"]), tokenizer.eos_token_id
    ('lower, naïve', 1)
    >>> tokenizer.apply_chat_template([{"role": "user", "content": "2+2"}], tokenize=False, add_generation_prompt=True)
    '<s><|im_start|>user\\n2+2<|im_end|><|im_start|>assistant\\n'
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=[BOS, EOS, PAD, BEGIN, END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD, additional_special_tokens=[BEGIN, END],
        chat_template=CHAT_TEMPLATE, clean_up_tokenization_spaces=False,
    )  # fmt: skip
