"""CSV and TSV: quotes, line breaks in cells, rows of another width, and a quote that is never closed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from tests.messy_files.cases import JSON, Case, File, among, chat, good


def as_table(head: Sequence[str], rows: Iterable[Sequence[str] | str], sep: str = ",", end: str = "\n") -> str:
    """Return a table as text; a row that is a string stands as it is."""
    out = io.StringIO()
    for row in (head, *rows):
        out.write(row + end) if isinstance(row, str) else csv.writer(out, delimiter=sep, lineterminator=end).writerow(row)
    return out.getvalue()


def table_row(n: int) -> Case:
    return Case([f"Question {n}?", "", f"Answer {n}."], "", f"Answer {n}.")


CELLS: tuple[Case, ...] = (
    Case(["A comma, quoted", 'and "quotes"', 'He said "no", twice.'], "", 'He said "no", twice.'),
    Case(["A line\nin a cell", "", "Two\n\nblank lines\r\nand a return."], "", "Two\n\nblank lines\r\nand a return."),
    Case(["A nul \x00 here", "", "gone"], "+control_characters", "gone"),
    Case(["No answer?", "", ""], "-empty_answer"),
    Case(["Blank?", "", "  "], "-empty_answer"),
    Case(["", "", "To what?"], "-empty_prompt"),
    Case(["Question 0?", "", "Answer 0."], "-duplicate"),
    Case(["Long?", "", "word " * 200_000], "", "word " * 200_000),
    Case("too,few", "-wrong_fields"),
    Case("one,too,many,fields", "-wrong_fields"),
)


def files() -> Iterable[File]:
    head = ["instruction", "input", "output"]
    rows = among(CELLS, table_row)
    raw = [case.raw for case in rows]
    fit = [case for case in rows if not isinstance(case.raw, str)]
    yield "cells.csv", as_table(head, raw).encode(), rows
    yield "cells-crlf.csv", as_table(head, raw, end="\r\n").encode(), rows
    yield "cells.tsv", as_table(head, [r.replace(",", "\t") if isinstance(r, str) else r for r in raw], "\t").encode(), rows
    yield "semicolons.csv", as_table(head, [case.raw for case in fit], ";").encode(), fit
    open_quote = Case('An open "quote,,"never closed', "-invalid_csv")
    for name, after in (
        ("plain", [table_row(8), table_row(9)]),
        ("quoted", [Case(["Quoted, later", "", 'an "answer"'], "", 'an "answer"')]),
    ):
        broken = [table_row(0), table_row(1), open_quote, *after]
        yield f"open-quote-{name}.csv", as_table(head, [case.raw for case in broken]).encode(), broken
    latin = (
        as_table(head, [table_row(0).raw, table_row(1).raw]).encode()
        + b"caf\xe9?,,yes\n"
        + as_table(table_row(2).raw, []).encode()
    )
    yield "latin-row.csv", latin, [table_row(0), table_row(1), Case(None, "-invalid_encoding"), table_row(2)]
    talk = [Case([JSON(chat(f"{n}?", f"{n}."))], "", f"{n}.") for n in range(3)]
    bad = [talk[0], Case(["[{not json"], "-wrong_type"), talk[1], Case(["7"], "-wrong_type"), talk[2]]
    yield "messages.csv", as_table(["messages"], [case.raw for case in bad]).encode(), bad
    mixed, names = [good(n) for n in range(14)], sorted({key for n in range(7) for key in good(n).raw})
    texts = [{key: value if isinstance(value, str) else JSON(value) for key, value in case.raw.items()} for case in mixed]
    yield "shapes.csv", as_table(names, [[text.get(name, "") for name in names] for text in texts]).encode(), mixed
    words = ("MIT", "CC-BY-NC-4.0", "GPL-3.0", "", "unknown")
    yield (
        "licences.csv",
        as_table([*head, "license"], [[*table_row(n).raw, word] for n, word in enumerate(words)]).encode(),
        [table_row(n) for n in range(len(words))],
    )
    pairs = [Case([f"Was {n}?", f"Das {n}."], "", f"Das {n}.") for n in range(3)]
    yield "columns.csv", as_table(["Frage", "Antwort"], [case.raw for case in pairs]).encode(), pairs
    three = [table_row(n) for n in range(3)]
    yield "blank-lines.csv", as_table(head, [three[0].raw, "", three[1].raw, "", "", three[2].raw, ""]).encode(), three
    yield "no-last-newline.csv", as_table(head, [case.raw for case in three]).encode().rstrip(), three
    yield "cut-in-quote.csv", as_table(head, [case.raw for case in three]).encode() + b'Cut?,,"in the mid', [
        *three, Case(None, "-invalid_csv"),
    ]  # fmt: skip
