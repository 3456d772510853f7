"""The tokens that are trained on are exactly the assistant's turns, whatever the template."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from composer.encode import PLAIN_TEMPLATE, Encoding, encode, load_tokenizer, prompt_ids, render
from composer.errors import ModelError, SourceError

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '</s>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
STRIPPING = (  # drops earlier assistant turns, as templates of thinking models do with their thoughts
    "{% for m in messages %}{% if m['role'] != 'assistant' or loop.last %}"
    "{{ m['role'] + ':' + m['content'] + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)
REFUSING = "{{ raise_exception('roles must alternate') }}"


def tokenizer(template: str) -> Any:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<s>", "</s>", "<pad>", "<|im_start|>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)  # fmt: skip
    inner.train_from_iterator(["what is the answer to the question", "the answer is law"], trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    made.chat_template = template
    return made


CHAT = {name: tokenizer(template) for name, template in {"chatml": CHATML, "plain": PLAIN_TEMPLATE}.items()}


def turns(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)]


def trained_text(tok: Any, encoding: Encoding | str) -> str:
    assert isinstance(encoding, Encoding)
    return str(tok.decode([i for i, t in zip(encoding.ids, encoding.trained, strict=True) if t], skip_special_tokens=True))


words = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(
    str.strip
)


@pytest.mark.parametrize("name", CHAT)
@given(contents=st.lists(words, min_size=2, max_size=6).filter(lambda c: len(c) % 2 == 0))
@settings(max_examples=40, deadline=None)
def test_decoding_the_marked_tokens_gives_the_answers(name: str, contents: Sequence[str]) -> None:
    tok = CHAT[name]
    [encoding] = encode(tok, [turns(*contents)], max_length=10_000)
    assert trained_text(tok, encoding).split() == "\n".join(contents[1::2]).split()


@pytest.mark.parametrize("name", CHAT)
def test_the_end_marker_is_trained_on_and_the_prompt_is_not(name: str) -> None:
    tok = CHAT[name]
    [encoding] = encode(tok, [turns("what is it", "law")], max_length=100)
    assert isinstance(encoding, Encoding)
    prompt = prompt_ids(tok, turns("what is it"))
    assert list(encoding.ids[: len(prompt)]) == prompt
    assert not any(encoding.trained[: len(prompt)])
    assert tok.eos_token_id in [i for i, t in zip(encoding.ids, encoding.trained, strict=True) if t]


def test_the_header_of_an_assistant_who_speaks_first_is_not_trained_on() -> None:
    tok = CHAT["chatml"]
    greeting = [{"role": "assistant", "content": "law"}, *turns("what", "answer")]
    [encoding] = encode(tok, [greeting], max_length=100)
    assert isinstance(encoding, Encoding)
    opening = tok("<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
    assert list(encoding.ids[: len(opening)]) == opening
    assert not any(encoding.trained[: len(opening)])
    assert trained_text(tok, encoding).split() == ["law", "answer"]


def test_a_batch_is_its_rows() -> None:
    rows = [turns("a", "b"), turns("what is the question", "the answer"), [{"role": "assistant", "content": "a document"}]]
    assert encode(CHAT["chatml"], rows, max_length=50) == [encode(CHAT["chatml"], [row], max_length=50)[0] for row in rows]


def test_a_document_is_trained_on_whole_and_ends() -> None:
    tok = CHAT["chatml"]
    [encoding] = encode(tok, [[{"role": "assistant", "content": "the answer is law"}]], max_length=50)
    assert isinstance(encoding, Encoding)
    assert encoding.ids[0] == tok.bos_token_id
    assert encoding.ids[-1] == tok.eos_token_id
    assert encoding.n_loss_tokens == len(encoding.ids) - 1


def test_truncation_and_rows_without_loss() -> None:
    tok = CHAT["chatml"]
    [cut] = encode(tok, [turns("a", "the answer is law " * 20)], max_length=40)
    assert isinstance(cut, Encoding)
    assert len(cut.ids) == 40
    assert encode(tok, [turns("the question " * 50, "law")], max_length=12) == ["no_loss_tokens"]


def test_a_template_that_rewrites_or_refuses_is_named_and_loses_no_other_row() -> None:
    assert (
        encode(tokenizer(STRIPPING), [turns("a", "b", "c", "d"), turns("a", "b")], max_length=50)[0]
        == "template_rewrites_history"
    )
    assert isinstance(encode(tokenizer(STRIPPING), [turns("a", "b", "c", "d"), turns("a", "b")], max_length=50)[1], Encoding)
    assert encode(tokenizer(REFUSING), [turns("a", "b")], max_length=50) == ["template_refuses"]
    with pytest.raises(SourceError, match="template_refuses; got roles must alternate"):
        render(tokenizer(REFUSING), turns("a", "b"))


def test_load_tokenizer_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"base_model\.path: no tokenizer"):
        load_tokenizer(tmp_path)
    tokenizer(CHATML).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no such template file; expected auto, plain or a file"):
        load_tokenizer(tmp_path, chat_template="missing.jinja")
    assert load_tokenizer(tmp_path).chat_template == CHATML
    assert load_tokenizer(tmp_path, chat_template="plain").chat_template == PLAIN_TEMPLATE
    tokenizer(None).save_pretrained(tmp_path / "bare")  # type: ignore[arg-type]
    assert load_tokenizer(tmp_path / "bare").chat_template == PLAIN_TEMPLATE
