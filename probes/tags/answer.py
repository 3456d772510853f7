"""What a model is asked for a text's tags, and how its answer is read.

The question and its examples tie neither the request nor the tags to a language. An answer that an engine held to the schema is
read as it is; any other may have prose around its list, fences, thoughts before it or its end cut off.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from probes.tags.spelling import normalise

_ASK = """\
List what the request below asks for: the skills, the subject and the form of the answer. Do not carry the request out.
Write only a JSON list of 1 to {max_tags} objects with "tag" and "explanation", the most telling first. A tag is a noun phrase \
of one to four words in the language of the request, such that other requests could have it too. An explanation is one short \
sentence.

<request>
{text}
</request>"""

_EXAMPLES = (
    (
        "Write a Python function that returns the three most frequent words of a text file.",
        (
            ("python programming", "The answer is a Python function."),
            ("word counting", "It counts how often each word occurs."),
            ("file reading", "The words come from a file."),
        ),
    ),
    (
        "Schreibe eine höfliche E-Mail, in der ich meinen Zahnarzttermin absage.",
        (
            ("e-mail verfassen", "Die Antwort ist eine E-Mail."),
            ("terminabsage", "Ein Termin wird abgesagt."),
            ("höflicher ton", "Die E-Mail soll höflich sein."),
        ),
    ),
    (
        "把这句话翻译成法语：今天天气很好。",
        (("法语翻译", "需要译成法语。"), ("句子", "原文是一句话。")),
    ),
)

_DECODER = json.JSONDecoder(strict=False)  # a grammar for JSON may let raw control characters into strings


class Answer(NamedTuple):
    """The tags of an answer, none where it has none; ``exact`` where the list that was asked for was there in full."""

    tags: tuple[str, ...]
    exact: bool


def question(text: str, *, max_tags: int) -> list[dict[str, str]]:
    """Return the messages that ask for a text's tags: three examples, and the text."""
    messages = []
    for request, tags in _EXAMPLES:
        listed = [{"tag": tag, "explanation": explanation} for tag, explanation in tags[:max_tags]]
        messages.append({"role": "user", "content": _ASK.format(max_tags=max_tags, text=request)})
        messages.append({"role": "assistant", "content": _compact(listed)})
    return [*messages, {"role": "user", "content": _ASK.format(max_tags=max_tags, text=text)}]


def _compact(listed: list[dict[str, str]]) -> str:
    """Write JSON as an engine that holds answers to a schema lets it be written."""
    return json.dumps(listed, ensure_ascii=False, separators=(",", ":"))


def schema(*, max_tags: int) -> dict[str, Any]:
    """Return the JSON schema of an answer; the lengths keep a model that finds no end within its tokens."""
    fields = {"tag": {"type": "string", "minLength": 1, "maxLength": 60}, "explanation": {"type": "string", "maxLength": 160}}
    item = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
    return {"type": "array", "items": item, "minItems": 1, "maxItems": max_tags}


def read_answer(text: str) -> Answer:
    """Return the tags of an answer: those of the first list of tag objects, else of all such objects, else a list of words.

    What stands in ``<think>`` is not read. A tag without a letter or a number is none.

    Examples
    --------
    >>> read_answer('Sure: [{"tag": "sorting", "explanation": "It sorts."}]')
    Answer(tags=('sorting',), exact=True)
    >>> read_answer('[{"tag": "sorting", "explanation": "It sorts."}, {"tag": "lis')
    Answer(tags=('sorting',), exact=False)
    >>> read_answer("I sort lists.")
    Answer(tags=(), exact=False)
    """
    said = text.rpartition("</think>")[2] if "</think>" in text else text.partition("<think>")[0]
    lists = list(_values(said, "["))
    for value in lists:
        if tags := _tags([item.get("tag") for item in value if isinstance(item, dict)]):
            return Answer(tags, True)
    if tags := _tags([item.get("tag") for item in _values(said, "{")]):
        return Answer(tags, False)
    return Answer(next(filter(None, map(_tags, lists)), ()), False)


def _tags(values: Sequence[Any]) -> tuple[str, ...]:
    return tuple(value for value in values if isinstance(value, str) and normalise(value))


def _values(text: str, opening: str) -> Iterator[Any]:
    """Yield the JSON values that begin with a bracket, from the left, none inside another."""
    place = text.find(opening)
    while place >= 0:
        try:
            value, place = _DECODER.raw_decode(text, place)
            yield value
        except ValueError:
            place += 1
        except RecursionError:  # a thousand brackets and no tag
            return
        place = text.find(opening, place)
