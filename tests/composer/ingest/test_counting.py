"""What is counted is what would be encoded, token by token, however it is counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from composer.conversation import extras_of
from composer.encode import PLAIN_TEMPLATE, Encoding, encode, wholes
from composer.errors import FaultError
from composer.ingest.counting import COUNT, SHARE, Counter, count, processes_for
from composer.tables import MESSAGE

DOMAINS = Path(__file__).parents[3] / "../shared/data/domains"
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '<|im_end|>\n\n' + m['content'] | trim + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_end|>\n\n' }}{% endif %}"
)
REWRITING = "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}{{ 'now:' }}{% endif %}"
TEXTS = [
    "The court of the river town rules on the lease.  It's what they'd said:\n\n  1) wait; 2) don't go.",
    "def f(x):\n    return x + 12345 # adds\r\n\tif x: pass", "naïve café — “what's” über 東京の天気 \U0001f600",
]  # fmt: skip
LLAMA_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
ADDED = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]


def tokenizer(split: str | None = None, *, template: str = CHATML, trim: bool = True) -> Any:
    inner = Tokenizer(models.BPE())
    if split is None:
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=trim)
    else:
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=trim, use_regex=False)
        inner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(split), "isolated"), byte_level])
        inner.normalizer = normalizers.NFC()
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=ADDED, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())  # fmt: skip
    inner.train_from_iterator([*TEXTS, "\n\n \n\n  \n\n", "....\n....\n", ". . .", "  a  b"] * 3, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")
    made.chat_template = template
    return made


KINDS = {"gpt2": tokenizer(), "llama": tokenizer(LLAMA_SPLIT), "untrimmed": tokenizer(trim=False)}
piece = st.sampled_from(
    [" ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", ".", "...", ".\n", "/", "'s", "'S", "'", "don't", "The", " court", "x1",
     "12345", "é", "e\u0301", "\u0301", "東京", "\u00a0", "\u2028", "\x1c", "\x00", "ſ", "<s>", "<|im_end|>", "<|im", "_", "-",
     "“", "\U0001f600"]
)  # fmt: skip
texts = st.lists(piece, max_size=25).map("".join)


def frame(conversations: Sequence[list[dict[str, str]]], extras: Sequence[str | None] | None = None) -> pl.DataFrame:
    columns = {"messages": conversations, "extras": extras or [None] * len(conversations)}
    return pl.DataFrame(columns, schema={"messages": pl.List(MESSAGE), "extras": pl.String})


def talk(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)]


def expected(tok: Any, rows: pl.DataFrame, *, max_length: int) -> list[tuple[Any, ...]]:
    out: list[tuple[Any, ...]] = []
    for found, longer in zip(*(encode(tok, wholes(rows), max_length=n) for n in (max_length, 10**9)), strict=True):
        if isinstance(found, Encoding):
            cut = isinstance(longer, Encoding) and len(longer.ids) > max_length
            out.append((len(found.ids), found.n_loss_tokens, cut, None, found.adapted, list(found.not_carried)))
        else:
            out.append((None, None, None, found))
    return out


def counted(tok: Any, rows: pl.DataFrame, *, max_length: int) -> list[tuple[Any, ...]]:
    found = count(tok, rows, max_length=max_length)
    assert found.schema == pl.Schema(COUNT)
    return [row if row[3] is None else (None, None, None, row[3]) for row in found.rows()]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("template", [CHATML, PLAIN_TEMPLATE, LLAMA3], ids=["chatml", "plain", "llama3"])
@given(rows=st.lists(st.lists(texts, min_size=1, max_size=5), max_size=4), max_length=st.integers(1, 70))
@settings(max_examples=20, deadline=None)
def test_what_is_counted_is_what_is_encoded(name: str, template: str, rows: list[list[str]], max_length: int) -> None:
    tok = KINDS[name]
    tok.chat_template = template
    conversations = frame([talk(*contents) if len(contents) > 1 else [{"role": "assistant", "content": contents[0]}]
                           for contents in rows])  # fmt: skip
    assert counted(tok, conversations, max_length=max_length) == expected(tok, conversations, max_length=max_length)


def test_real_rows() -> None:
    if not DOMAINS.is_dir():
        pytest.skip("the shared data is not here")
    read = [pl.read_parquet(path).head(150) for path in sorted(DOMAINS.glob("*.parquet"))]
    rows = frame([talk(f"{asked}\n\n{given}", answer) for part in read
                  for asked, given, answer in part.select("instruction", "input", "output").iter_rows()])  # fmt: skip
    wanted = expected(KINDS["gpt2"], rows, max_length=400)
    assert len({row[3] for row in wanted}) == 2
    assert counted(KINDS["gpt2"], rows, max_length=400) == wanted
    with Counter(KINDS["gpt2"], max_length=400) as counter:
        parts = [counter.count(part) for part in rows.iter_slices(77)]
    assert pl.concat(parts).equals(count(KINDS["gpt2"], rows, max_length=400))


def test_extras_and_refusals_are_told_in_their_rows(tokenizer: Any) -> None:
    tools = [{"type": "function", "function": {"name": "weather", "description": "Of a town."}}]
    call = {"function": {"name": "weather", "arguments": {"town": "here"}}}
    rows = frame(
        [talk("Rain?", "It is.", "Sure?", "Yes."), talk("Rain?", "No."), talk("Rain?", "No." * 300), talk("a " * 300, "b")],
        [extras_of({1: {"tool_calls": [call], "thinking": "Hm."}}, tools), None, None, None],
    )
    found = count(tokenizer, rows, max_length=400)
    assert counted(tokenizer, rows, max_length=400) == expected(tokenizer, rows, max_length=400)
    assert found["adapted"].to_list() == [True, False, False, False]
    assert found["not_carried"].to_list() == [["thinking"], [], [], []]
    assert found["truncated"].to_list() == [False, False, True, True]
    assert found["reason"].to_list() == [None, None, None, "no_loss_tokens"]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, chat_template=REWRITING)
    told = count(tokenizer, rows, max_length=400)
    assert told["reason"].to_list() == ["template_rewrites_history"] * 4
    assert told["n_tokens"].to_list() == [None] * 4


def test_truncation_is_told_at_the_border(tokenizer: Any) -> None:
    rows = frame([[{"role": "assistant", "content": "the river"}], talk("the river", "flows")])
    for i, [n, n_loss] in enumerate(count(tokenizer, rows, max_length=99).select("n_tokens", "n_loss_tokens").iter_rows()):
        seen = {length: count(tokenizer, rows, max_length=length).row(i, named=True) for length in (n, n - 1, n - n_loss)}
        assert [(seen[k]["n_tokens"], seen[k]["truncated"]) for k in (n, n - 1)] == [(n, False), (n - 1, True)]
        assert (seen[n - n_loss]["reason"], seen[n - n_loss]["n_loss_tokens"]) == ("no_loss_tokens", 0)


def test_an_empty_frame(tokenizer: Any) -> None:
    assert count(tokenizer, frame([]), max_length=9).equals(pl.DataFrame(schema=pl.Schema(COUNT)))


def test_a_row_of_a_million_characters(tokenizer: Any) -> None:
    long = [
        talk("word " * 200_000, "b"),
        talk("a" * 10**5, "b"),
        talk("x" + " " * 10**5, "\n" * 10**4 + "b"),
        talk("so \n" * 10**4, "b"),
    ]
    rows = frame(long)
    assert counted(tokenizer, rows, max_length=10**7) == expected(tokenizer, rows, max_length=10**7)


@pytest.mark.parametrize(
    "change",
    [
        lambda inner: setattr(inner, "normalizer", normalizers.Lowercase()),
        lambda inner: setattr(inner, "pre_tokenizer", pre_tokenizers.Metaspace()),
        lambda inner: setattr(inner, "pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=True)),
        lambda inner: setattr(inner, "pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)),
        lambda inner: setattr(
            inner,
            "pre_tokenizer",
            pre_tokenizers.Sequence(
                [pre_tokenizers.Split(Regex(r"\w+ \w+"), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
            ),
        ),
        lambda inner: setattr(inner, "pre_tokenizer", None),
        lambda inner: setattr(inner, "model", models.BPE(dropout=0.1)),
        lambda inner: setattr(inner, "model", models.WordLevel({"a": 0}, unk_token="a")),
        lambda inner: inner.add_tokens([AddedToken("<mask>", lstrip=True)]),
        lambda inner: inner.add_tokens([AddedToken("law court", normalized=False)]),
        lambda inner: inner.add_tokens(["court"]),
    ],
)
def test_any_tokenizer_is_counted_as_it_encodes(change: Any) -> None:
    made = tokenizer()
    inner = Tokenizer.from_str(made.backend_tokenizer.to_str())
    change(inner)
    odd = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", chat_template=CHATML)
    if getattr(inner.model, "dropout", None) is None:
        rows = frame([talk("the law court <mask> rules", "a court"), talk(*TEXTS, "a")])
        assert counted(odd, rows, max_length=40) == expected(odd, rows, max_length=40)


def test_special_tokens_may_be_read_as_text() -> None:
    made = tokenizer()
    made.split_special_tokens = True
    rows = frame([talk("the <s> court", "rules")])
    assert counted(made, rows, max_length=90) == expected(made, rows, max_length=90)
    assert counted(made, rows, max_length=90) != counted(tokenizer(), rows, max_length=90)


def test_several_processes_count_the_same_and_one_that_dies_is_told(tokenizer: Any) -> None:
    rows = frame([talk("the river " * i, f"flows {i}") for i in range(41)])
    with Counter(tokenizer, max_length=60, processes=2) as counter:
        assert counter.count(rows).equals(count(tokenizer, rows, max_length=60))
        assert counter.count(rows.clear()).is_empty()
        assert counter._pool is not None
        for process in counter._pool._processes.values():
            process.kill()
        with pytest.raises(FaultError, match="a counting process died; count in one process"):
            counter.count(rows)
    assert processes_for(2 * SHARE - 1) == 1
    assert 1 <= processes_for(10**9) <= (os.cpu_count() or 1)


def test_a_counting_process_starts_without_torch() -> None:
    script = (
        "import sys, composer.ingest.counting, transformers.tokenization_utils_tokenizers as t; print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout.lower()) is False
