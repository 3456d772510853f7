"""Bars of several threads share one display, which ends with the last of them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from flows.screen import Screen


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
