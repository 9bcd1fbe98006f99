"""Figures with their intervals lie where the axis says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixcell_share.figures.intervals import Figure, Measured, interval_plot


@given(
    low=st.floats(0, 1), value=st.floats(0, 1), high=st.floats(0, 1), limit=st.floats(0, 1),
    at_least=st.booleans(), share=st.booleans(), scale=st.sampled_from([1e-3, 1.0, -40.0]),
)  # fmt: skip
def test_a_plot_holds_all_values_in_their_order(low, value, high, limit, at_least, share, scale):
    numbers = [number if share else scale * number for number in (low, value, high, limit)]
    low, value, high = sorted(numbers[:3])
    figure = Figure(
        Measured("main", value, low, high), (Measured("control", numbers[3]),), numbers[3],
        at_least, share,
    )  # fmt: skip
    plot = interval_plot(figure)
    assert 0 <= plot.main.low <= plot.main.place <= plot.main.high <= 100
    assert plot.limit == plot.compared[0].place
    places = [place for place, _ in plot.ticks]
    assert places == sorted(places)
    assert places[0] == 0
    assert places[-1] == pytest.approx(100)
    bottom, top, _ = figure.axis()
    assert bottom - 1e-9 <= low
    assert high <= top + 1e-9


def test_a_value_lies_where_the_axis_says():
    plot = interval_plot(Figure(Measured("residual", 0.05, 0.0, 0.08), limit=0.1))
    assert (plot.main.place, plot.main.low, plot.limit) == (50.0, 0.0, 100.0)
    assert [text.replace("\u00a0", " ") for _, text in plot.ticks][-1] == "10 %"
    far = interval_plot(Figure(Measured("c_t", -1.5, -3.0, -1.0), share=False))
    assert [text for _, text in far.ticks] == ["\u22123", "\u22122", "\u22121", "0"]
    assert far.main.place == 50.0
