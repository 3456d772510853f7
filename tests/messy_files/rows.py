"""Every row that JSON can say, in everything that holds JSON, and rows whose reading a recipe declares."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tests.messy_files.cases import FILTERED, JSON, Case, File, among, as_array, chat, good, joined, sharegpt, turns

CALL = {"id": "c1", "type": "function", "function": {"name": "height", "arguments": '{"of": "hill"}'}}
TOOLS = [{"type": "function", "function": {"name": "height", "parameters": {"type": "object"}}}]
USE = [
    {"role": "user", "content": "How high is the hill?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": '{"metres": 12}', "tool_call_id": "c1", "name": "height"},
    {"role": "assistant", "content": "Twelve metres."},
]
THINKING = {"role": "assistant", "content": "Nine.", "reasoning_content": "three threes"}


# Fine as they are.
KEPT: tuple[Any, ...] = (
    {"messages": chat("Hail?", "Ice.", system="Be brief.")},
    {"messages": chat("One?", "1", "Two?", "2", "Three?", "3")},
    turns(("user", "Part one."), ("user", "Part two."), ("assistant", "Both."), ("assistant", "Parts.")),
    turns(("assistant", "Welcome."), ("user", "Thanks."), ("assistant", "Sit down.")),
    turns(("user", [{"type": "text", "text": "In "}, {"type": "text", "text": "parts"}]), ("assistant", "Joined.")),
    {"messages": USE, "tools": TOOLS},
    {"messages": USE[:2]},  # the answer is a call
    {"messages": [{"role": "user", "content": "Tools as text?"}, *USE[1:]], "tools": JSON(TOOLS)},
    {"messages": [{"role": "user", "content": "3 x 3?"}, THINKING]},
    {"messages": [{"role": "user", "content": "4 x 4?"}, {"role": "assistant", "content": "16", "thinking": "two eights"}]},
    {"messages": chat("5 x 5?", "<think>five fives</think>\n\n25")},
    {"messages": JSON(chat("Messages as text?", "Read as they are meant."))},
    sharegpt(("human", "Fog?"), ("gpt", "Low cloud."), system="Weather only."),
    sharegpt(("system", "Short."), ("human", "Dew?"), ("gpt", "Water.")),
    sharegpt(("user", "Mist?"), ("assistant", "Thin fog.")),
    sharegpt(("human", "Depth?"), ("function_call", '{"name": "depth", "arguments": {}}'), ("observation", '{"m": 3}'),
          ("gpt", "3 m"), tools='[{"name": "depth"}]'),
    sharegpt(("human", "Width?"), ("function_call", {"name": "width", "arguments": {}}), ("observation", {"m": 7}),
          ("gpt", "7 m")),
    sharegpt(("gpt", "I speak first."), ("gpt", "And again."), ("human", "Why?"), ("gpt", "Habit.")),
    {"instruction": "Go on.", "input": "a tale", "output": "It ends.", "system": "A poet.", "history": [["Begin.", "Once."]]},
    {"instruction": "No input.", "input": None, "output": "None.", "history": None, "system": None},
    {"instruction": "", "input": "Only input.", "output": "Enough."},
    {"instruction": "Two columns.", "response": "Fine."},
    {"prompt": chat("List prompt?"), "completion": [{"role": "assistant", "content": "List answer."}]},
    {"prompt": chat("Mixed?"), "completion": "Mixed."},
    {"query": "A query?", "response": "A response."},
    {"question": "Where?", "answer": "There.", "context": "A map.", "system": "A guide."},
    {"text": "Line one.\r\nLine two.\r\n\ttab\n"},
    {"text": "separators \u2028 \u2029 \x85 \xa0 \x7f inside"},
    {"text": "emoji \U0001f30a and a pair \u00e9\u4e2d\ufeff"},
    {"text": "a hundred digits beside it", "n": 10**100},
    {"text": "nulls and nests beside it", "a": None, "b": {"c": [[], {}, [None]]}, "": 0},
    {"messages": None, "conversations": None, "text": "shapes that are null are absent"},
)  # fmt: skip
REPAIRED: tuple[tuple[Any, str], ...] = (
    ({"messages": [*chat("Done?", "Done."), {"role": "user", "content": "Thanks!"}]}, "trailing_turns"),
    (sharegpt(("human", "Left?"), ("gpt", "Right."), ("human", "Oh.")), "trailing_turns"),
    (turns(("user", "Said?"), ("assistant", "Said."), ("user", "More?"), ("assistant", " ")), "trailing_turns"),
    ({"text": "nul \x00, bell \x07 and escape \x1b[0m"}, "control_characters"),
    ({"instruction": "Form\x0cfeed?", "output": "Vertical\x0btab."}, "control_characters"),
    ({"prompt": "units \x1c\x1d\x1e\x1f?", "completion": "separators"}, "control_characters"),
    ({"text": "half an emoji \ud83d here"}, "lone_surrogates"),
    ({"messages": chat("the other \udf0a half", "yes")}, "lone_surrogates"),
    ({"text": "both \x01 and \ud83d"}, "control_characters+lone_surrogates"),
)
DROPPED: tuple[tuple[Any, str], ...] = (
    ([1, 2], "not_an_object"),
    (["text", "a list"], "not_an_object"),
    ("a string", "not_an_object"),
    (3.5, "not_an_object"),
    (True, "not_an_object"),
    (None, "not_an_object"),
    ({}, "unknown_shape"),
    ({"title": "no shape", "body": "of ours"}, "unknown_shape"),
    ({"messages": None}, "unknown_shape"),
    ({"text": None}, "unknown_shape"),
    ({"instruction": "no answer beside it"}, "unknown_shape"),
    ({"messages": "not a list"}, "wrong_type"),
    ({"messages": {"role": "user"}}, "wrong_type"),
    ({"messages": [1, 2]}, "wrong_type"),
    ({"conversations": 7}, "wrong_type"),
    ({"text": 7}, "wrong_type"),
    ({"text": ["a", "b"]}, "wrong_type"),
    ({"instruction": "Number?", "output": 7}, "wrong_type"),
    ({"instruction": {"a": 1}, "output": "An object?"}, "wrong_type"),
    ({"instruction": "Pairs?", "output": "Yes.", "history": [["one"]]}, "wrong_type"),
    ({"instruction": "Texts?", "output": "Yes.", "history": [[1, 2]]}, "wrong_type"),
    ({"prompt": 1, "completion": "one"}, "wrong_type"),
    (turns(("narrator", "Night fell."), ("assistant", "Dark.")), "unknown_role"),
    (turns((None, "Who?"), ("assistant", "Me.")), "unknown_role"),
    ({"messages": [{"content": "No role."}, {"role": "assistant", "content": "None."}]}, "unknown_role"),
    (sharegpt(("alien", "Zap."), ("gpt", "What?")), "unknown_role"),
    (turns(("user", [{"type": "image_url", "image_url": {"url": "x"}}]), ("assistant", "A cat.")), "unsupported_content"),
    (turns(("user", 7), ("assistant", "Seven.")), "unsupported_content"),
    (turns(("user", "A question only?")), "no_answer"),
    (turns(("system", "A system only.")), "no_answer"),
    ({"messages": []}, "no_answer"),
    ({"conversations": []}, "no_answer"),
    (sharegpt(("human", "Anybody?")), "no_answer"),
    ({"instruction": "Empty?", "output": ""}, "empty_answer"),
    ({"instruction": "Blank?", "output": " \n\t"}, "empty_answer"),
    ({"instruction": "Null?", "output": None}, "empty_answer"),
    ({"prompt": "Empty too?", "completion": ""}, "empty_answer"),
    ({"question": "Empty as well?", "answer": ""}, "empty_answer"),
    ({"text": ""}, "empty_answer"),
    ({"text": " \u00a0\u2003"}, "empty_answer"),
    ({"text": "\x00\x07"}, "empty_answer"),  # nothing is left once it is repaired
    (turns(("user", "Hm?"), ("assistant", "")), "empty_answer"),
    ({"instruction": "", "input": " ", "output": "To what?"}, "empty_prompt"),
    ({"prompt": "", "completion": "To what?"}, "empty_prompt"),
    ({"question": None, "answer": "To what?"}, "empty_prompt"),
    (turns(("user", " "), ("assistant", "To what?")), "empty_prompt"),
)


def every_row() -> list[Case]:
    cases = [Case(row) for row in KEPT]
    cases += [Case(row, f"+{word}") for row, word in REPAIRED]
    cases += [Case(row, f"-{word}") for row, word in DROPPED]
    copies = [Case(good(0).raw, "-duplicate"), Case(KEPT[0], "-duplicate"), Case({"messages": chat("Question 2 of the river?",
              "Answer 2 of the river.")}, "-duplicate")]  # fmt: skip
    return among([*cases, *copies])


def files() -> Iterable[File]:
    """Every row that JSON can say, in everything that holds JSON."""
    rows, seven = every_row(), [good(n) for n in range(21)]
    yield "rows.jsonl", joined(rows), rows
    yield "rows.ndjson", joined(rows, b"\r\n").rstrip(), rows
    yield "rows.json", as_array(rows), rows
    yield "rows-lines.json", joined(rows), rows
    yield "rows-data.json", b'{"version": "1.0", "data": ' + as_array(rows) + b"}\n", rows
    yield "rows-indented.json", json.dumps([case.raw for case in rows], indent=2).encode(), rows
    yield "shapes.jsonl", joined(seven), seven
    yield "one-object.json", json.dumps(good(0).raw, indent=1).encode(), [good(0)]
    for name in ("columns.jsonl", "speakers.jsonl", "roles.jsonl", "licences.jsonl", "where.jsonl", "alpaca-only.jsonl"):
        yield name, joined(chosen := _declared(name)), chosen


def _declared(name: str) -> list[Case]:
    """Rows of the files whose columns, speakers or licences are declared."""
    if name == "columns.jsonl":
        return [Case({"ask": "A?", "say": "B.", "output": 7}, "", "B."), Case({"ask": "C?", "say": ""}, "-empty_answer"),
                Case({"ask": "C?", "say": "D."}, "", "D.")]  # fmt: skip
    if name == "speakers.jsonl":
        logs = [[("visitor", "A?"), ("bot", "B.")], [("ghost", "Boo."), ("bot", "Eek.")], [("visitor", "C?"), ("bot", "D.")]]
        rows = [{"log": [{"who": who, "what": what} for who, what in log]} for log in logs]
        return [Case(rows[0], "", "B."), Case(rows[1], "-unknown_role"), Case(rows[2], "", "D.")]
    if name == "roles.jsonl":
        return [Case(turns(("narrator", "Once."), ("user", "A?"), ("bot", "B.")), "", "B."),
                Case(sharegpt(("human", "C?"), ("bot", "D.")), "", "D."),
                Case(turns(("ghost", "Boo."), ("bot", "Eek.")), "-unknown_role"),
                Case({"messages": chat("E?", "F.")}, "", "F.")]  # fmt: skip
    if name == "where.jsonl":
        words = ("train", "test", "train", None, "train")
        return [Case({**good(n).raw, "split": word}, "" if word == "train" else FILTERED, good(n).answer)
                for n, word in enumerate(words)]  # fmt: skip
    if name == "alpaca-only.jsonl":
        return [good(2), Case(good(0).raw, "-other_shape"), good(9), Case(good(5).raw, "-other_shape"), good(16)]
    licences = ("MIT", "CC-BY-NC-4.0", "GPL-3.0", None, "unknown", "MIT", "")
    return [Case({**good(n).raw, "license": word}, "", good(n).answer) for n, word in enumerate(licences)]
