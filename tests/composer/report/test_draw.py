"""Pictures: what is drawn stands where its value is, and darker is more."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.report.draw import Band, Mark, Mini, Strip, areas, columns, heat, minis, points, strips
from composer.report.draw.scale import ticks

values = st.floats(0, 1e6, allow_nan=False)


@given(st.lists(values, min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_bars_are_as_long_as_their_values(found: list[float]) -> None:
    drawn = strips([Strip("a", "", bar=value) for value in found], says="")
    wide = [float(width) for width in re.findall(r'<rect[^>]* width="([\d.]+)%"', drawn)]
    assert len(wide) == len(found)
    assert all(0 <= width <= 100 for width in wide)
    if max(found) > 1:
        assert wide == pytest.approx([100 * value / (1.04 * max(found)) for value in found], abs=0.002)


@given(values, values)
@settings(max_examples=60, deadline=None)
def test_ticks_are_few_even_and_inside(a: float, b: float) -> None:
    low, high = sorted((a, b))
    found = ticks(low, high + 1)
    assert 1 <= len(found) <= 7
    assert all(low - 1e-6 <= value <= high + 1 + 1e-6 for value in found)


def test_marks_and_intervals_stand_where_they_are() -> None:
    row = Strip("a", "", interval=(0.25, 0.75), marks=(Mark(0.5, "dot", "c0", "half"), Mark(0.5, "diamond", "c1", "half")))
    drawn = strips([row], says="s", high=1.0)
    assert 'x1="25%" x2="75%"' in drawn
    assert 'cx="50%"' in drawn
    assert '<svg x="50%"' in drawn


def test_darker_is_more_and_nothing_is_empty() -> None:
    drawn = heat(["r"], ["a", "b", "c", "d"], [[0.0, 0.5, 1.0, None]], says="s", outlined=frozenset({(0, 2)}))
    dark = [float(how) for how in re.findall(r'fill-opacity="([\d.]+)"', drawn)]
    assert dark == pytest.approx([0.06, 0.53, 1.0])
    assert drawn.count('class="none"') == 1
    assert drawn.count("heat-cell own") == 1
    assert re.findall(r"heat-text (\w+)", drawn) == ["low", "low", "high"]


def test_shares_are_stacked_up_to_the_whole() -> None:
    bands = [Band("c0", [0.25, 0.5], [False, True]), Band("c1", [0.75, 0.5])]
    drawn = areas(bands, [0, 0.5, 1], says="s", key="k", below=[], axis="x")
    first, second = re.findall(r'<path class="area c\d" d="M([^"]+)Z"', drawn)
    assert first.split("L")[:4] == ["0 750", "500 750", "500 500", "1000 500"]
    assert second.split("L")[:4] == ["0 0", "500 0", "500 0", "1000 0"]
    assert drawn.count("url(#hatch-k)") == 1


def test_lines_share_their_scale() -> None:
    drawn = minis([Mini("a", "", [(0, 0), (1, 1)]), Mini("b", "", [(0, 1), (1, 1)], level=0.5)], says="s", reach=(0, 1))
    assert 'd="M0 1000L1000 0"' in drawn
    assert 'd="M0 500H1000"' in drawn
    stepped = minis([Mini("a", "", [(0, 0), (1, 1)])], says="s", reach=(0, 1), stepped=True)
    assert 'd="M0 1000L1000 1000L1000 0"' in stepped


def test_a_histogram_has_a_bar_per_bin_and_a_map_a_point_each() -> None:
    drawn = columns([1, 2], [0, 1, 2], says="s", axis="x")
    assert [float(h) for h in re.findall(r'height="([\d.]+)"></?rect|<rect[^>]* height="([\d.]+)"', drawn)[0] if h] == [500]
    plotted = points({"c0": [(0, 0), (1, 1)], "c1": []}, [(0.5, 0.5, "<b>"), (0.5, 0.5, "c")], says="s")
    assert 'd="M0 1000h0M1000 0h0"' in plotted
    assert "&lt;b&gt;" in plotted
    assert len(set(re.findall(r"bottom:([\d.]+)%", plotted))) == 2
