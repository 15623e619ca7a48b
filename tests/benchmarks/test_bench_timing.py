from __future__ import annotations

import pytest

from benchmarks.stopwatch import PARTS, Stopwatch, WatchPoint, watching
from benchmarks.timing import Way, race


class Clock:
    """A clock that only work moves."""

    def __init__(self) -> None:
        self.wall = self.processor = 0.0
        self.calls: list[tuple[str, object]] = []

    def __call__(self) -> tuple[float, float]:
        return self.wall, self.processor

    def way(self, name, seconds, *, units=1, busy=1.0, calls=1) -> Way:
        """Return a way that takes `seconds(input)` a call, of which the part `busy` computes."""

        def work(one) -> int:
            self.calls.append((name, one))
            taken = seconds(one)
            self.wall += taken
            self.processor += busy * taken
            return units

        return Way(name, work, calls)


def test_medians_worst_cases_and_ratios():
    clock = Clock()
    ways = [
        clock.way("slow", lambda one: 10.0 * one, units=5),
        clock.way("fast", lambda one: {1: 1.0, 2: 4.0, 3: 6.0}[one], units=10, busy=0.5),
    ]
    slow, fast = race(ways, [1, 2, 3], turns=2, clock=clock)
    # Units a call differ: 2, 4 and 6 s a unit against 0.1, 0.4 and 0.6 s.
    assert (slow.way, slow.ms, slow.ms_worst) == ("slow", 4000, 6000)
    assert (slow.ratio, slow.ratio_worst, slow.processor_ratio) == (1, 1, 1)
    assert (fast.ms, fast.ms_worst) == pytest.approx((400, 600))
    assert fast.processor_ms == pytest.approx(200)
    assert (fast.ratio, fast.ratio_worst) == pytest.approx((10, 10))
    assert (fast.processor_ratio, fast.processor_ratio_worst) == pytest.approx((20, 20))


def test_the_worst_input_is_that_of_the_smallest_ratio():
    clock = Clock()
    ways = [
        clock.way("base", lambda one: 8.0),
        clock.way("other", lambda one: {1: 1.0, 2: 2.0, 3: 16.0}[one]),
    ]
    other = race(ways, [1, 2, 3], turns=1, clock=clock)[1]
    assert (other.ratio, other.ratio_worst) == (4, 0.5)
    assert other.ms_worst == 16_000


def test_neither_the_first_call_nor_one_slow_turn_counts():
    clock = Clock()
    lengths = iter([50.0, 2.0, 90.0, 2.0])
    (standing,) = race([clock.way("way", lambda one: next(lengths))], [0], turns=3, clock=clock)
    assert standing.ms == 2000
    assert next(lengths, None) is None


def test_ways_take_turns_in_changing_order():
    clock = Clock()
    ways = [clock.way("a", lambda one: 1.0), clock.way("b", lambda one: 1.0, calls=2)]
    race(ways, ["x", "y"], turns=2, clock=clock)
    turns = ["a", "b", "b", "b", "b", "a"]
    assert clock.calls == [
        ("a", "x"),
        ("b", "x"),
        *((name, "x") for name in turns),
        *((name, "y") for name in turns),
    ]


def test_a_race_needs_an_input():
    with pytest.raises(ValueError, match="needs an input"):
        race([Way("way", lambda one: 1)], [])


def test_time_of_watched_functions_is_without_that_of_those_they_call(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("benchmarks.stopwatch.time.process_time", lambda: now[0])
    watch = Stopwatch()

    def advance(seconds: float) -> None:
        now[0] += seconds

    inner = watch.timed(advance, "inner")

    def outer() -> str:
        advance(1)
        inner(2)
        inner(3)
        return "done"

    assert watch.timed(outer, "outer")() == "done"
    inner(10)
    assert watch.seconds == {"outer": 1, "inner": 15}


def test_watching_puts_everything_back():
    before = [getattr(*point.find()) for point in PARTS]
    with watching() as watch:
        assert all(
            getattr(*point.find()) is not one for point, one in zip(PARTS, before, strict=True)
        )
    assert [getattr(*point.find()) for point in PARTS] == before
    assert set(watch.seconds) == {point.part for point in PARTS}


def test_a_watched_function_that_is_gone_is_an_error():
    with pytest.raises(AttributeError), watching([WatchPoint("x", "mer_prep.ops.faces", "gone")]):
        pass
