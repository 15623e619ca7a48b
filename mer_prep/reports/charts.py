"""Small charts as SVG, drawn in the colours of the page's theme.

Lines differ by dashes as well as by colour, so that a page printed in grey can be read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mer_prep.reports.markup import Html, escaped, number

#: Room around the drawing, px: left for the numbers of y, bottom for those of x and the label.
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 10, 10, 36

#: Largest magnitude that is drawn, and smallest range: beyond, floats have no room for ticks.
LARGEST, _LEAST = 1e30, 1e-30

#: Line styles that the style sheet has.
_STYLES = 6


@dataclass(frozen=True)
class Line:
    """A curve.

    Parameters
    ----------
    name : str
        Its name in the legend.
    x, y : sequence of float
        Points in order, of equal length; where y is not finite, or larger than `LARGEST`, the
        line is broken.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Marker:
    """A vertical line at some x, such as an annotated apex.

    Parameters
    ----------
    name : str
        Written beside it.
    x : float
        Where it stands.
    style : int
        Style as of lines, 0 to 5.
    """

    name: str
    x: float
    style: int = 1


@dataclass(frozen=True)
class Bar:
    """A bar.

    Parameters
    ----------
    name : str
        Written before it.
    value : float
        Its length, 0 or more.
    expected : float, optional
        What it is to be compared with, drawn as a tick.
    """

    name: str
    value: float
    expected: float | None = None


@dataclass(frozen=True)
class Span:
    """A value with the interval it lies in.

    Parameters
    ----------
    name : str
        Written before it.
    value, low, high : float
        The value and the ends of its interval, 0 to 1.
    faint : bool
        Whether it is drawn hollow, as what others are held against.
    """

    name: str
    value: float
    low: float
    high: float
    faint: bool = False


def ticks(low: float, high: float, *, count: int = 4) -> list[float]:
    """Return round numbers from `low` to `high`, as few as there are from `count` - 1 on.

    They are multiples of 1, 2 or 5 times a power of ten; a single value is its own tick.
    """
    if not high > low:
        return [low]
    power = 10.0 ** math.ceil(math.log10(high - low))
    steps = (power * step / 10**down for down in range(3) for step in (1, 0.5, 0.2))
    for step in steps:
        first = math.ceil(low / step - 1e-9)
        last = math.floor(high / step + 1e-9)
        if last - first + 2 >= count:
            break
    return [float(f"{step * index:.12g}") for index in range(first, last + 1)]


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    markers: Sequence[Marker] = (),
    size: tuple[int, int] = (420, 170),
    y_range: tuple[float, float] | None = None,
) -> Html:
    """Return curves over a common x.

    Parameters
    ----------
    lines : sequence of Line
        The curves; the first six look different.
    title : str
        What it shows, for those who cannot see it.
    x_label, y_label : str
        Names of the axes with their units.
    markers : sequence of Marker
        Vertical lines.
    size : tuple of int
        Width and height in px at full size; it shrinks with its place.
    y_range : tuple of float, optional
        Lowest and highest y; by default those of the curves.

    Returns
    -------
    Html
        An ``svg`` element; without any finite point a paragraph that says so.
    """
    points = [(x, y) for line in lines for x, y in zip(line.x, line.y, strict=True) if _is_drawn(y)]
    if not points:
        return Html(f'<p class="empty">{escaped(title)}: there is nothing to draw.</p>')
    x_values = [x for x, _ in points] + [marker.x for marker in markers]
    y_values = [y for _, y in points] if y_range is None else list(y_range)
    frame = _Frame(size, (min(x_values), max(x_values)), (min(y_values), max(y_values)))
    body = [frame.axes(x_label, y_label)]
    body += [_marker(marker, frame) for marker in markers]
    body += [_path(line, style, frame) for style, line in enumerate(lines)]
    legend = _legend([line.name for line in lines], markers)
    return Html(
        f'<div class="chart"><svg viewBox="0 0 {size[0]} {size[1]}" role="img" '
        f'aria-label="{escaped(title)}">{"".join(body)}</svg>{legend}</div>'
    )


class _Frame:
    """From values to px."""

    def __init__(
        self, size: tuple[int, int], x: tuple[float, float], y: tuple[float, float]
    ) -> None:
        self.width, self.height = size
        self._x, self._y = _widened(x), _widened(y)

    def x(self, value: float) -> float:
        low, high = self._x
        return _LEFT + (value - low) / (high - low) * (self.width - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self._y
        return self.height - _BOTTOM - (value - low) / (high - low) * (self.height - _TOP - _BOTTOM)

    def axes(self, x_label: str, y_label: str) -> str:
        bottom, right = self.height - _BOTTOM, self.width - _RIGHT
        parts = []
        for value in ticks(*self._y):
            y = self.y(value)
            parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{right}"/>')
            parts.append(
                f'<text class="tick end" x="{_LEFT - 5}" y="{y + 4:.1f}">{_short(value)}</text>'
            )
        parts.append(f'<path class="axis" d="M{_LEFT} {bottom}H{right}"/>')
        for value in ticks(*self._x, count=6):
            x = self.x(value)
            parts.append(f'<path class="axis" d="M{x:.1f} {bottom}v4"/>')
            parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 15}">{_short(value)}</text>')
        middle = (_LEFT + right) / 2
        parts.append(
            f'<text class="label" x="{middle}" y="{self.height - 5}">{escaped(x_label)}</text>'
        )
        up = (_TOP + bottom) / 2
        parts.append(
            f'<text class="label" transform="translate(11 {up}) rotate(-90)">'
            f"{escaped(y_label)}</text>"
        )
        return "".join(parts)


def _widened(span: tuple[float, float]) -> tuple[float, float]:
    low, high = span
    size = max(abs(low), abs(high))
    if high - low > max(_LEAST, 1e-9 * size):
        return low, high
    room = max(0.5, 1e-3 * size)  # what is added to a large number must change it
    return low - room, high + room


def _is_drawn(value: float) -> bool:
    return math.isfinite(value) and abs(value) <= LARGEST


def _short(value: float) -> str:
    return f"{value:g}"


def _path(line: Line, style: int, frame: _Frame) -> str:
    commands = []
    pen = "M"
    for x, y in zip(line.x, line.y, strict=True):
        if not _is_drawn(y):
            pen = "M"
            continue
        commands.append(f"{pen}{frame.x(x):.1f} {frame.y(y):.1f}")
        pen = "L"
    return f'<path class="line style-{style % _STYLES}" d="{"".join(commands)}"/>'


def _marker(marker: Marker, frame: _Frame) -> str:
    x = frame.x(marker.x)
    return (
        f'<path class="line marker style-{marker.style % _STYLES}" '
        f'd="M{x:.1f} {_TOP}V{frame.height - _BOTTOM}"/>'
    )


def _legend(names: Sequence[str], markers: Sequence[Marker]) -> str:
    entries = [(name, style, "") for style, name in enumerate(names)]
    entries += [(marker.name, marker.style, " marker") for marker in markers]
    if len(entries) < 2:
        return ""
    return f'<ul class="legend">{"".join(_entry(*one) for one in entries)}</ul>'


def _entry(name: str, style: int, kind: str) -> str:
    return (
        f'<li><svg viewBox="0 0 22 8" aria-hidden="true"><path class="line{kind} '
        f'style-{style % _STYLES}" d="M0 4H22"/></svg>{escaped(name)}</li>'
    )


def bar_chart(
    bars: Sequence[Bar], *, title: str, unit: str, expected: str = "", width: int = 420
) -> Html:
    """Return horizontal bars, one below the other, each with its name and value.

    Parameters
    ----------
    bars : sequence of Bar
        The bars.
    title : str
        What it shows, for those who cannot see it.
    unit : str
        Unit of the values.
    expected : str
        What the ticks are, for the legend; empty if there are none.
    width : int
        Width in px at full size.
    """
    if not bars:
        return Html(f'<p class="empty">{escaped(title)}: there is nothing to draw.</p>')
    name_width = min(width // 2, 12 + 7 * max(len(bar.name) for bar in bars))
    room = width - name_width - 60
    most = max(max(bar.value, bar.expected or 0) for bar in bars) or 1
    rows = []
    for index, bar in enumerate(bars):
        y = 4 + 22 * index
        length = room * bar.value / most
        rows.append(
            f'<text class="name" x="{name_width - 8}" y="{y + 13}">{escaped(bar.name)}</text>'
            f'<rect class="bar" x="{name_width}" y="{y + 2}" width="{length:.1f}" height="14"/>'
        )
        end = length
        if bar.expected is not None:
            at = room * bar.expected / most
            end = max(length, at)
            rows.append(
                f'<path class="expected" d="M{name_width + at:.1f} {y - 1}v20">'
                f"<title>{escaped(expected)}: {number(bar.expected)}</title></path>"
            )
        rows.append(
            f'<text class="value" x="{name_width + end + 6:.1f}" y="{y + 13}">'
            f"{number(bar.value)}</text>"
        )
    height = 8 + 22 * len(bars)
    legend = f"in {escaped(unit)}"
    if expected and any(bar.expected is not None for bar in bars):
        legend += f"; the tick is {escaped(expected)}"
    listed = ", ".join(f"{bar.name} {number(bar.value)}" for bar in bars)
    return Html(
        f'<div class="chart"><svg viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escaped(title)}: {escaped(listed)} {escaped(unit)}">{"".join(rows)}</svg>'
        f'<p class="legend">{legend}</p></div>'
    )


def histogram(
    values: Sequence[float], *, title: str, unit: str, bins: int = 5, width: int = 420
) -> Html:
    """Return how often values fall into bins of equal, round width.

    Parameters
    ----------
    values : sequence of float
        Values; those below 0, above `LARGEST` or not finite are left out.
    title, unit, width
        As of `bar_chart`; the unit is that of the values.
    bins : int
        About how many bins there are, or up to twice as many.
    """
    values = [value for value in values if _is_drawn(value) and value >= 0]
    if not values:
        return bar_chart((), title=title, unit=unit)
    edges = ticks(0, max(*values, 1e-9), count=bins)
    step = edges[1] - edges[0]
    counts = [0] * (int(max(values) / step + 1e-9) + 1)
    for value in values:
        counts[int(value / step + 1e-9)] += 1
    bars = [
        Bar(f"{_short(round(index * step, 9))}–{_short(round((index + 1) * step, 9))}", count)
        for index, count in enumerate(counts)
    ]
    return bar_chart(bars, title=title, unit=f"clips, by {unit}", width=width)


def span_chart(
    spans: Sequence[Span], *, title: str, label: str, line: float, line_name: str, width: int = 560
) -> Html:
    """Return values from 0 to 1 with their intervals, one below the other.

    Parameters
    ----------
    spans : sequence of Span
        The values, in order from the top.
    title : str
        What it shows, for those who cannot see it.
    label : str
        Name of the axis.
    line : float
        A value that all are held against, drawn as a vertical line.
    line_name : str
        What that is, for the legend.
    width : int
        Width in px at full size.
    """
    name_width = min(width // 2, 12 + 7 * max(len(span.name) for span in spans))
    room, bottom = width - name_width - 20, 8 + 24 * len(spans)

    def at(value: float) -> float:
        return name_width + room * value

    parts = []
    for value in ticks(0, 1, count=5):
        parts.append(f'<path class="grid" d="M{at(value):.1f} 4V{bottom}"/>')
        parts.append(
            f'<text class="tick" x="{at(value):.1f}" y="{bottom + 15}">{_short(value)}</text>'
        )
    parts.append(f'<path class="line marker style-1" d="M{at(line):.1f} 4V{bottom}"/>')
    for index, span in enumerate(spans):
        y = 18 + 24 * index
        kind = "span faint" if span.faint else "span"
        parts.append(
            f'<text class="name" x="{name_width - 8}" y="{y + 4}">{escaped(span.name)}</text>'
            f'<path class="{kind}" d="M{at(span.low):.1f} {y}H{at(span.high):.1f}'
            f'M{at(span.low):.1f} {y - 4}v8M{at(span.high):.1f} {y - 4}v8"/>'
            f'<circle class="{kind}" cx="{at(span.value):.1f}" cy="{y}" r="4.5"/>'
        )
    middle = name_width + room / 2
    parts.append(f'<text class="label" x="{middle:.1f}" y="{bottom + 32}">{escaped(label)}</text>')
    listed = ", ".join(
        f"{span.name} {span.value:.3f}, {span.low:.3f} to {span.high:.3f}" for span in spans
    )
    return Html(
        f'<div class="chart"><svg viewBox="0 0 {width} {bottom + 38}" role="img" '
        f'aria-label="{escaped(title)}: {escaped(listed)}">{"".join(parts)}</svg>'
        f'<ul class="legend">{_entry(line_name, 1, " marker")}</ul></div>'
    )
