from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from mer_prep.reports.charts import (
    Bar,
    Line,
    Marker,
    Span,
    bar_chart,
    histogram,
    line_chart,
    span_chart,
    ticks,
)
from mer_prep.reports.markup import escaped
from mer_prep.reports.page import check_self_contained


def drawn(chart):
    """Return the svg of a chart, which must be well-formed and complete in itself."""
    check_self_contained(chart)
    return ElementTree.fromstring(chart).find("svg")


def points_of(path):
    return [tuple(map(float, pair.split())) for pair in re.split("[ML]", path.get("d"))[1:]]


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ((0, 1), [0, 0.5, 1]),
        ((0, 100), [0, 50, 100]),
        ((0.013, 0.087), [0.02, 0.04, 0.06, 0.08]),
        ((-3, 5), [-2, 0, 2, 4]),
        ((7, 7), [7]),
    ],
)
def test_ticks_are_round_and_inside(span, expected):
    assert ticks(*span) == pytest.approx(expected)


def test_a_line_goes_through_its_points():
    svg = drawn(
        line_chart(
            [Line("score", [10, 20, 30], [0, 4, 2])],
            title="a & b",
            x_label="frame",
            y_label="score",
            markers=[Marker("apex", 20)],
        )
    )
    assert svg.get("aria-label") == "a & b"
    curve, marker = (
        next(p for p in svg.iter("path") if p.get("class") == name)
        for name in ("line style-0", "line marker style-1")
    )
    (x0, y0), (x1, y1), (x2, y2) = points_of(curve)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.11)
    assert y0 - y1 == pytest.approx(2 * (y0 - y2), abs=0.2)
    assert y0 > y2 > y1
    assert float(re.match(r"M([\d.]+) ", marker.get("d")).group(1)) == pytest.approx(x1)


def test_a_line_breaks_where_nothing_is_known():
    svg = drawn(
        line_chart([Line("a", range(4), [1, math.nan, 2, 3])], title="", x_label="", y_label="")
    )
    curve = next(p for p in svg.iter("path") if p.get("class") == "line style-0")
    assert re.sub("[^ML]", "", curve.get("d")) == "MML"


def test_constant_and_empty_curves():
    assert drawn(line_chart([Line("a", [0, 1], [5, 5])], title="", x_label="", y_label=""))
    empty = line_chart([Line("a", [0], [math.inf])], title="<x>", x_label="", y_label="")
    assert empty == '<p class="empty">&lt;x&gt;: there is nothing to draw.</p>'


def test_several_lines_have_a_legend_and_differ_by_style():
    lines = [Line(f"<{n}>", [0, 1], [n, n + 1]) for n in range(3)]
    chart = line_chart(lines, title="", x_label="", y_label="")
    assert drawn(chart) is not None
    assert "<li>" in chart
    assert escaped("<2>") in chart
    assert {f"line style-{n}" for n in range(3)} <= set(re.findall('class="([^"]*)"', chart))


def test_bars_are_as_long_as_their_values():
    svg = drawn(
        bar_chart(
            [Bar("happiness", 30, 32), Bar("fear", 15)], title="t", unit="clips", expected="exp."
        )
    )
    first, second = (float(bar.get("width")) for bar in svg.iter("rect"))
    assert first == pytest.approx(2 * second, abs=0.11)
    (tick,) = [p for p in svg.iter("path") if p.get("class") == "expected"]
    start = float(next(svg.iter("rect")).get("x"))
    at = float(re.match(r"M([\d.]+) ", tick.get("d")).group(1)) - start
    assert at / first == pytest.approx(32 / 30, abs=0.01)
    assert "happiness 30" in svg.get("aria-label")


def test_no_bars_and_bars_of_nothing():
    assert "nothing to draw" in bar_chart((), title="t", unit="clips")
    svg = drawn(bar_chart([Bar("a", 0)], title="t", unit="clips"))
    assert next(svg.iter("rect")).get("width") == "0.0"


def test_a_histogram_counts_every_value_once():
    svg = drawn(histogram([0, 0.1, 0.24, 0.25, 1.0], title="t", unit="px", bins=4))
    label = svg.get("aria-label")
    counts = [int(one) for one in re.findall(r"–[\d.]+ (\d+)", label)]
    names = re.findall(r"([\d.]+–[\d.]+) \d", label)
    assert sum(counts) == 5
    assert names[0] == "0–0.5"
    assert counts[0] == 4


def test_a_histogram_of_zeros_has_one_bar():
    svg = drawn(histogram([0.0, 0.0], title="t", unit="px"))
    assert [bar.get("width") != "0.0" for bar in svg.iter("rect")] == [True]


@pytest.mark.parametrize("values", [(1.111, 1.122), (0.1957, 0.2004)])
def test_the_label_of_the_axis_stands_clear_of_its_numbers(values):
    svg = drawn(
        line_chart([Line("loss", (1, 2), values)], title="loss", x_label="step", y_label="loss")
    )
    numbers = [one for one in svg.iter("text") if one.get("class") == "tick end"]
    # Digits of the page's font are at most 0.64 em wide at 11 px; the label reaches 3 px below
    # its line, which runs upwards.
    left = min(float(one.get("x")) - 0.64 * 11 * len(one.text) for one in numbers)
    (label,) = (one for one in svg.iter("text") if one.get("transform"))
    line = float(re.search(r"translate\((\d+)", label.get("transform"))[1])
    assert max(len(one.text) for one in numbers) >= 5
    assert line + 3 < left


def test_spans_stand_on_one_axis_with_what_they_are_held_against():
    spans = [Span("first", 0.5, 0.25, 1.0), Span("<control>", 0.0, 0.0, 0.25, faint=True)]
    chart = span_chart(spans, title="UF1", label="UF1", line=0.75, line_name="chance", width=400)
    root = drawn(chart)
    circles = root.findall(".//circle")
    start = 12 + 7 * len("<control>")
    room = 400 - start - 20
    assert [float(one.get("cx")) for one in circles] == pytest.approx([start + room / 2, start])
    assert [one.get("class") for one in circles] == ["span", "span faint"]
    bars = [one.get("d") for one in root.findall(".//path") if "span" in one.get("class")]
    assert bars[0].startswith(f"M{start + room / 4:.1f} 18H{start + room:.1f}M")
    (line,) = [one for one in root.findall(".//path[@d]") if "marker" in one.get("class")][:1]
    assert line.get("d").startswith(f"M{start + room * 0.75:.1f} ")
    assert "first 0.500, 0.250 to 1.000, &lt;control&gt; 0.000" in chart
    assert chart.count("<li>") == 1
    check_self_contained(chart)
