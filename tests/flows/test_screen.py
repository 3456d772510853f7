"""Bars of several threads share one display, which ends with the last of them; texts do nothing in a terminal."""

from __future__ import annotations

import io
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from rich.text import Text

from flows.cli import invoke
from flows.command import give, state
from flows.screen import Screen, _console, table
from tests.flows.prefect_world import Done, recipe_of


def test_bars_of_two_threads_share_a_display_until_both_have_ended() -> None:
    screen, both, one_ended = Screen(), threading.Barrier(2, timeout=30), threading.Event()

    def work(*, last: bool) -> bool:
        with screen.bar("work", total=2, unit="rows") as bar:
            both.wait()
            bar.advance()
            if last:
                assert one_ended.wait(30)
            live = screen._live
            bar.advance()
        if not last:
            one_ended.set()
        return live is not None

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda last: work(last=last), (False, True))) == [True, True]
    assert screen._live is None
    with screen.bar("again", total=1, unit="rows"), screen.bar("inside", total=1, unit="rows"):
        assert screen._live is not None
    assert screen._live is None


HOSTILE = (
    "\x1b]0;title\x07", "\x1b[2J\x1b[1;1H", "\x9b31m", "\x1bP+q\x1b\\", "\r hidden", "\x08\x08\x08", "\u202egnp.exe",
    "<script>alert(1)</script>", "a|b\n| c | d |", "[x](http://evil)", "[red]markup[/red]",
)  # fmt: skip
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("terminal", [True, False])
def test_a_text_that_is_shown_does_nothing_in_a_terminal(text: str, terminal: bool) -> None:
    console = _console(file=io.StringIO(), force_terminal=terminal, width=200)
    for shown in (table(text, [text], [(text,)]), Text(text, style="bold"), Text.assemble((text, "red"))):
        console.print(shown)
    console.print(text, markup=False, soft_wrap=True)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    ours = re.sub(r"\x1b\[[0-9;]*m", "", said) if terminal else said  # rich's own colours
    assert not OBEYED.search(ours)
    assert not text.isprintable() or text in ours


def test_a_document_says_the_same_and_obeys_nobody(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "json", True)
    give(list(HOSTILE), lambda: None)
    said = capsys.readouterr().out
    assert json.loads(said) == list(HOSTILE)
    assert not OBEYED.search(said)


def test_rows_that_attack_are_shown_and_described_as_text(
    done: Done, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the texts of a domain, as its licences, and as what is wrong with it."""
    recipe = recipe_of(tmp_path, done)
    rows = [{"instruction": f"{text} {i}", "output": text, "license": text} for i, text in enumerate(HOSTILE * 4)]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows] + [f"{{{text}" for text in HOSTILE if "\n" not in text]
    (tmp_path / "law.jsonl").write_text("\n".join(lines), encoding="utf-8")
    recipe.write_text(recipe.read_text().replace("license: MIT", "license: from_row", 1))
    store = ("--store", str(tmp_path / "store"))
    for command in (("doctor", recipe, "max_dropped=1"), ("run", recipe, "--plain", *store), ("show", "export", *store)):
        assert invoke([str(word) for word in command]) == 0
        told = capsys.readouterr()
        assert not OBEYED.search(told.out + told.err)
    assert invoke(["run", str(recipe), "\x1b[2J=1"]) == 2
    assert not OBEYED.search(capsys.readouterr().err)
    [card] = (tmp_path / "store").glob("export/*/README.md")
    body = card.read_text(encoding="utf-8").split("---\n", 2)[2]
    assert "<script" not in body
    assert not re.search(r"(?<!\\)\]\(http://evil", body)
    assert not OBEYED.search(body)
