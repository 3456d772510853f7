"""A draft as a recipe: YAML that a run takes as it is, with a comment to every line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl
import yaml

from composer.template import PLAIN_TEMPLATE, Tokenizer
from flows.drafting import Draft, Found

MODEL = "MODEL"
"""Stands for the base model in a recipe that was written without one."""

COLUMN, WIDTH = 44, 126  # at which a comment begins, and ends at the latest
CHARACTERS_PER_TOKEN = 4  # of English text under the usual vocabularies
LONG, SHORT = 8_192, 128
"""Between these ``max_length`` is chosen."""

_WORDS_OF_USE = {"validation": {"role": "validation"}, "reference": {"role": "reference"}}


@dataclass(frozen=True)
class Lengths:
    """How long rows are: 99 of 100 have at most ``usual`` tokens, the longest has ``longest``; counted, or guessed.

    Who counts, and finds a tokenizer without a chat template of its own, says so.
    """

    usual: int
    longest: int
    is_counted: bool
    has_template: bool = True


def lengths(draft: Draft, tokenizer: Tokenizer | None) -> Lengths:
    """Return how long the rows to train on are, as far as they were looked at."""
    texts = pl.concat([each.look.texts for each in draft.used("target")])
    if tokenizer is None:
        of_row = pl.col("messages").list.eval(pl.element().struct.field("content").str.len_chars() + 16).list.sum()
        n = texts.select(of_row // CHARACTERS_PER_TOKEN).to_series()
    else:
        from composer.ingest.counting import count

        n = count(tokenizer, texts, max_length=1 << 20)["n_tokens"].drop_nulls()
    usual, longest = (int(n.quantile(q, interpolation="higher") or SHORT) for q in (0.99, 1.0))
    has_template = tokenizer is None or tokenizer.chat_template != PLAIN_TEMPLATE
    return Lengths(usual, longest, tokenizer is not None, has_template)


def max_length(found: Lengths, context: int | None) -> int:
    """Return the power of two that holds 99 of 100 rows, within what the model can read.

    Examples
    --------
    >>> max_length(Lengths(600, 3_000, True), None), max_length(Lengths(600, 3_000, True), 512)
    (1024, 512)
    """
    wanted = 1 << max(found.usual - 1, 1).bit_length()
    return min(max(wanted, SHORT), LONG, context or LONG)


def recipe_text(draft: Draft, *, name: str, model: str | None, found: Lengths, context: int | None, asked: str) -> str:
    """Return the recipe of a draft; ``asked`` is the command that it came of, ``context`` what the model can read at once."""
    parts = [
        _head(asked),
        _line(f"name: {_value(name)}", "what the experiment is called"),
        _line("seed: 7", "of everything that is drawn"),
        *_model(model, has_template=found.has_template),
        "",
        *_sources(draft),
        *_measured(draft),
        *_length(found, context),
        *_mixing(draft),
        *_training(),
    ]
    return "\n".join(parts) + "\n"


def _head(asked: str) -> str:
    return (
        f"# Written by `{asked}` after a look at the beginning of every file.\n"
        "# What is marked CHECK is a guess. Relative paths start where the command runs. Every field: README.md, docs/*.md.\n"
    )


def _line(text: str, comment: str) -> str:
    """Return a line with its comment beside it, or above it where it is long."""
    if len(text) < COLUMN and COLUMN + len(comment) < WIDTH:
        return f"{text:<{COLUMN}}# {comment}"
    indent = text[: len(text) - len(text.lstrip())]
    return f"{indent}# {comment}\n{text}"


def _value(value: Any) -> str:
    """Return a value as YAML in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _model(model: str | None, *, has_template: bool) -> list[str]:
    if model is None:
        return [_line(f"base_model: {{path: {MODEL}}}", "TO FILL IN: a folder with config.json, or a Hub id")]
    lines = [_line(f"base_model: {_value({'path': model})}", "where training starts: a folder, or a Hub id")]
    if not has_template:
        lines.insert(
            0, "# It has no chat template, so turns get plain headings; base_model.chat_template may name a Jinja file."
        )
    return lines


def _sources(draft: Draft) -> list[str]:
    out = [
        _line(f"domains: {_value(list(draft.domains))}", "what is weighed against each other, in this order"),
        _line("sources:", "what is read; below each path lie the rows of one domain"),
    ]
    for each in draft.used("target", "validation", "reference"):
        out += [f"  # {told(each)}", *(f"  # {note}" for note in each.notes), f"  - {_value(_fields(each))}"]
    for each in draft.used("none"):
        out += [f"  # left out: {'; '.join(each.notes)}", f"  # - {_value(_fields(each))}"]
    return [*out, ""]


def _fields(each: Found) -> dict[str, Any]:
    first = ("name", "path", "domain")
    rest = {name: value for name, value in each.fields.items() if name not in first}
    return {name: each.fields[name] for name in first} | dict[str, Any](_WORDS_OF_USE.get(each.use, {})) | rest


def told(each: Found) -> str:
    """Return a line about what a source was found to be."""
    look = each.look
    rows = "rows not counted" if look.rows is None else f"{look.rows:,} rows" if look.is_exact else f"about {look.rows:,} rows"
    lost = ", ".join(f"{n} {reason}" for reason, n in look.stats["dropped"].items())
    where = f" of {look.looked_into} of {look.n_files} files" if look.n_files > 1 else ""
    shape = ", ".join(each.shapes) or "no known shape"
    return f"{rows}, {shape}; looked at {look.stats['seen']:,}{where}" + (f"; dropped: {lost}" if lost else "")


def _measured(draft: Draft) -> list[str]:
    evaluation, validation = draft.used("evaluation"), draft.used("validation")
    is_all = {each.domain for each in validation} >= set(draft.domains)
    out = [
        _line("holdout: 0", "every domain has validation rows of its own")
        if is_all
        else _line("holdout: 0.1", "the share of rows that is kept back for measuring")
    ]
    if evaluation or validation:
        out.append(_line("decontaminate:", "training rows that hold these texts are dropped"))
        out += [_line("  validation: true", "the validation sources above")] if validation else []
        out += ["  against:"] if evaluation else []
        for each in evaluation:
            keys = {name: value for name, value in each.fields.items() if name not in ("domain", "license", "columns")}
            out += [f"    # {'; '.join(each.notes)}", f"    - {_value(keys)}"]
    return [*out, ""]


def _length(found: Lengths, context: int | None) -> list[str]:
    how = "counted" if found.is_counted else f"guessed at {CHARACTERS_PER_TOKEN} characters a token"
    told = f"tokens after which a row is cut; 99 of 100 have at most {found.usual:,}, the longest {found.longest:,} ({how})"
    return [_line(f"max_length: {max_length(found, context)}", told)]


def _mixing(draft: Draft) -> list[str]:
    if len(draft.domains) > 1:
        out = [
            _line(
                "law: {name: knowledge, floor: 0.02}", "shares follow what the model already knows; or: proportional, uniform"
            ),
            _line(
                "probe: {name: self_generation, samples: 1000}", "texts that the model writes; null without the law knowledge"
            ),
        ]
    else:
        out = [
            _line("law: proportional", "one domain: there is nothing to weigh"),
            _line("probe: null", "so the model need not be asked what it knows"),
        ]
    return [
        *out,
        _line("budget: {unit: loss_tokens, max_repeats: 1}", "everything once; amount: 2_000_000 trains on so many tokens"),
        "",
    ]


def _training() -> list[str]:
    adapter: Mapping[str, Any] = {"name": "lora", "rank": 16}
    return [
        _line("exports: [parquet, chat_jsonl]", "files of the mix; trl, axolotl, llama_factory ... add a config"),
        _line("train:", "null only writes the data"),
        _line(f"  adapter: {_value(dict(adapter))}", "what moves: lora, full, loramoe, mola, lota ..."),
        _line("  learning_rate: 2.0e-4", "of LoRA; full training takes about a tenth"),
        _line("  epochs: 1", "passes over the mix"),
    ]
