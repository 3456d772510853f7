"""Counting tokens against encoding every row as it was done before, on real rows and a tokenizer that is trained on them.

Before: every answer of a conversation renders what stands before it and what ends with it, the text is tokenised, and ids and
marks are made and counted. Ours starts with an empty memory in every run, and the counts are compared row by row. Rows are
questions and answers, and the same ones as conversations of ten exchanges, in which what was rendered grew with the square.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
from _harness import QUICK, Ratio, cpu_seconds, tell

from composer.encode import encode
from composer.ingest.counting import count
from composer.tables import MESSAGE, Schema

DATA = Path(__file__).parents[1] / "../shared/data/domains"
MAX_LENGTH = 512
EXCHANGES = 10
BATCH = 1_000
ROWS = 2_000 if QUICK else 1_000_000
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
Talk = list[dict[str, str]]
Counts = list[tuple[int, int, bool] | None]


def conversations() -> list[Talk]:
    """Return every question and answer of the real domains, in an order of no meaning."""
    if not DATA.is_dir():
        raise SystemExit(f"no rows to count: {DATA} is not here")
    rows = pl.concat([pl.read_parquet(path) for path in sorted(DATA.glob("*.parquet"))]).sample(
        fraction=1, shuffle=True, seed=0
    )
    return [
        [{"role": "user", "content": f"{asked}\n\n{given}".strip()}, {"role": "assistant", "content": answer}]
        for asked, given, answer in rows.select("instruction", "input", "output").head(ROWS).iter_rows()
    ]


def trained(talks: Sequence[Talk]) -> Any:
    """Return a byte-level tokenizer of 8,000 entries, learnt from the conversations."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=8_000, special_tokens=["<|im_start|>", "<|im_end|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    inner.train_from_iterator((turn["content"] for talk in talks for turn in talk), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>", chat_template=CHATML)


def before(tokenizer: Any, talks: Sequence[Talk]) -> Counts:
    """Return the counts as they were made before."""
    return [each for i in range(0, len(talks), BATCH) for each in _batch(tokenizer, talks[i : i + BATCH])]


def _batch(tokenizer: Any, talks: Sequence[Talk]) -> Counts:
    rendered = [_rendered(tokenizer, talk) for talk in talks]
    batch = tokenizer([text for text, _ in rendered], add_special_tokens=False)
    out: Counts = []
    for (text, spans), ids, found in zip(rendered, batch["input_ids"], batch.encodings, strict=True):
        marks = [False] * len(ids)
        for span in spans:
            begin, end = (_token_at(found, char, n_tokens=len(ids), n_chars=len(text)) for char in span)
            marks[begin:end] = [True] * (end - begin)
        kept, loss = tuple(ids[:MAX_LENGTH]), sum(tuple(marks[:MAX_LENGTH])[1:])
        out.append((len(kept), loss, len(ids) > MAX_LENGTH) if loss else None)
    return out


def _rendered(tokenizer: Any, talk: Talk) -> tuple[str, list[tuple[int, int]]]:
    def text(turns: Talk, *, prompt: bool = False) -> str:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt))

    full = text(talk)
    return full, [
        (len(text(talk[:i], prompt=True)), len(text(talk[: i + 1]) if i + 1 < len(talk) else full))
        for i in range(1, len(talk), 2)
    ]


def _token_at(found: Any, char: int, *, n_tokens: int, n_chars: int) -> int:
    while char < n_chars:
        if (token := found.char_to_token(char)) is not None:
            return int(token)
        char += 1
    return n_tokens


def now(tokenizer: Any, talks: Sequence[Talk]) -> Counts:
    """Return the counts as they are made now."""
    schema: Schema = {"messages": pl.List(MESSAGE), "extras": pl.String}
    frame = pl.DataFrame({"messages": talks, "extras": [None] * len(talks)}, schema=pl.Schema(schema))
    columns = count(tokenizer, frame, max_length=MAX_LENGTH).select("n_tokens", "n_loss_tokens", "truncated", "reason")
    return [None if reason else (n, loss, cut) for n, loss, cut, reason in columns.iter_rows()]


if __name__ == "__main__":
    single = conversations()
    several = [[turn for talk in single[i : i + EXCHANGES] for turn in talk] for i in range(0, len(single), EXCHANGES)]
    tokenizer = trained(single)
    encode(tokenizer, single[:2], max_length=MAX_LENGTH)  # imports are not the question
    ratios, equal, speed = [], True, {}
    for label, talks in {"single": single, "ten_exchanges": several}.items():
        costs = []
        for _ in range(2 if QUICK else 5):
            theirs, wanted = cpu_seconds(partial(before, tokenizer, talks))
            ours, found = cpu_seconds(partial(now, tokenizer, talks))
            equal = equal and wanted == found
            costs.append((ours, theirs))
            print(f"{label}: before {len(talks) / theirs:.0f} rows/s, now {len(talks) / ours:.0f}", file=sys.stderr)
        ratio = statistics.median(ours / theirs for ours, theirs in costs)
        ratios.append(Ratio(f"counting {label}", ratio, 0.25, "lower", len(costs)))
        for side, of in (("now", 0), ("before", 1)):
            speed[f"{label} {side}"] = {
                "rows per CPU second": round(len(talks) / statistics.median(cost[of] for cost in costs))
            }
    sizes = {"rows": len(single), "exchanges": EXCHANGES, "vocabulary": len(tokenizer)}
    tell("counting", ratios, equal=equal, sizes=sizes, costs=speed)
