"""The geometry of charts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_server.web.charts import curve, dot_plot
from hub_server.web.pages._words import brief, figure, lasting, sentence, size

VALUES = st.floats(-1e6, 1e6, allow_nan=False)


@given(st.lists(VALUES, min_size=2, max_size=1200))
def test_a_curve_stays_in_its_square_and_goes_to_the_right(values: list[float]) -> None:
    found = curve("Loss", list(enumerate(values)))
    assert found is not None
    points = [tuple(map(float, point.split(","))) for point in found.points.split()]
    across = [x for x, _ in points]
    assert across == sorted(across)
    assert len(points) <= 401
    assert all(-0.01 <= place <= 100.01 for point in points for place in point)
    assert (across[0] < 1 or len(values) > 400) and across[-1] == 100
    assert found.last == values[-1]


def test_what_is_not_finite_is_left_out_and_one_point_is_no_curve() -> None:
    assert curve("Loss", [(1, 2.0)]) is None
    assert curve("Loss", [(1, 2.0), (2, math.nan), (3, math.inf)]) is None
    found = curve("MFU", [(1, 31.0), (2, math.nan), (3, 32.0)], " %")
    assert found is not None
    assert found.points == "0.00,100.00 100.00,0.00"
    assert found.summary == "MFU: 31 % at step 1, 32 % at step 3"


def test_a_flat_curve_has_an_axis() -> None:
    found = curve("Loss", [(1, 5.0), (2, 5.0)])
    assert found is not None
    assert len(found.up) >= 2


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.floats(0, 0.2), st.floats(0, 0.2)), min_size=1, max_size=20
    )
)
def test_dots_lie_within_their_intervals(rows: list[tuple[float, float, float]]) -> None:
    plot = dot_plot(
        [(f"e{i}", v, v - below, v + above) for i, (v, below, above) in enumerate(rows)]
    )
    for dot in plot.dots:
        assert -0.01 <= dot.low <= dot.place <= dot.high <= 100.01
    assert [tick.place for tick in plot.ticks] == sorted(tick.place for tick in plot.ticks)


def test_a_dot_lies_where_its_value_is() -> None:
    plot = dot_plot([("a", 0.7, 0.6, 0.8)])
    assert (plot.dots[0].low, plot.dots[0].place, plot.dots[0].high) == (0, 50, 100)
    assert plot.dots[0].text == "70.0 % (60.0 to 80.0 %)"
    assert [tick.text for tick in plot.ticks] == ["60", "65", "70", "75", "80"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (lasting(42.4), "42 s"),
        (lasting(185), "3 min 5 s"),
        (lasting(7800), "2 h 10 min"),
        (size(999), "999\u00a0bytes"),
        (size(1536), "1.5\u00a0KiB"),
        (size(1 << 30), "1\u00a0GiB"),
        (sentence("the disk is full"), "The disk is full."),
        (sentence(""), ""),
        (brief("ab" * 32), "abababababab…"),
        (brief("short"), "short"),
        (
            figure({"global_px": 224, "rates": [0.5, True], "none": None}),
            "global px 224, rates 0.5, yes, none –",
        ),
    ],
)
def test_how_things_are_written(said: str, words: str) -> None:
    assert said == words
