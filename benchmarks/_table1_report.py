"""``docs/table1.md`` and its plot, from the stored result alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _table1_judging import DATASETS, TASKS
from _table1_training import ARMS, BOTH, REAL_A, SYNTHETIC_A, UNTRAINED
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pixcell_share.files import atomic_write_text

_LEFT, _TOP, _WIDTH, _ROW = 190, 30, 480, 52
_NAMES = {"knn": "k-NN", "linear_probing": "linear probe", "mean": "mean"}
_TABLE_1 = {REAL_A: 77.89, SYNTHETIC_A: 76.64, BOTH: 79.11}
"""Balanced accuracy in PixCell's table 1, in per cent."""


def write_report(result: Mapping[str, Any], docs: Path) -> None:
    """Write the page and the plot.

    Args:
        result: of ``table1.py``.
        docs: the folder of the documents.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    lines = {line["name"]: line for line in result["lines"]}
    page = environment.get_template("_table1_page.md.j2").render(
        result=result,
        columns=[f"{_NAMES[t]}, {d}" for t in TASKS for d in DATASETS],
        rows=[_row(line, seeds) for line, seeds in _with_seeds(result)],
        differences=[_difference(each) for each in result["differences"]],
        published=_TABLE_1,
        lines=lines,
        said=_said(result),
        training=result["settings"]["training"],
        data=result["settings"]["data"],
        cohort=result["settings"]["cohort"],
        counts=result["tiles"],
    )
    atomic_write_text(docs / "table1.md", page)
    axis = _Axis(result["lines"])
    marks = [_mark(line, place, axis) for place, line in enumerate(result["lines"])]
    plot = environment.get_template("_table1_plot.svg.j2").render(
        marks=marks,
        left=_LEFT,
        top=_TOP,
        width=_WIDTH,
        height=_ROW * len(marks),
        ticks=[(axis.place(value), f"{value:.2f}") for value in axis.ticks],
    )
    atomic_write_text(docs / "images" / "table1.svg", plot)


class _Axis:
    """Balanced accuracy, across the plot."""

    def __init__(self, lines: Sequence[Mapping[str, Any]]) -> None:
        means = [line["figures"]["mean"] for line in lines]
        self._low = int(min(mean["low"] for mean in means) * 20) / 20
        self._high = min(1.0, int(max(mean["high"] for mean in means) * 20 + 1) / 20)

    def place(self, value: float) -> float:
        return round(_LEFT + _WIDTH * (value - self._low) / (self._high - self._low), 1)

    @property
    def ticks(self) -> list[float]:
        count = round((self._high - self._low) / 0.05)
        return [self._low + 0.05 * step for step in range(count + 1)]


def _mark(line: Mapping[str, Any], place: int, axis: _Axis) -> dict[str, Any]:
    mean = line["figures"]["mean"]
    return {
        "name": line["name"],
        "kind": "arm" if line["name"] in ARMS else "reference",
        "y": _TOP + _ROW * place + _ROW // 2,
        "x": axis.place(mean["value"]),
        "low": axis.place(mean["low"]),
        "high": axis.place(mean["high"]),
        "seeds": [axis.place(value) for value in line["seeds"]],
        "title": f"{line['name']}: {_interval(mean)}",
    }


def _with_seeds(result: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], str]]:
    return [
        (line, f"{min(line['seeds']):.3f} to {max(line['seeds']):.3f}"
         if len(line["seeds"]) > 1 else "")
        for line in result["lines"]
    ]  # fmt: skip


def _row(line: Mapping[str, Any], seeds: str) -> dict[str, Any]:
    figures = line["figures"]
    return {
        "name": line["name"],
        "mean": _interval(figures["mean"]),
        "seeds": seeds,
        "cells": [f"{figures[f'{t}/{d}']['value']:.3f}" for t in TASKS for d in DATASETS],
    }


def _difference(each: Mapping[str, Any]) -> dict[str, Any]:
    found = each["second_minus_first"]
    clear = found["low"] > 0 or found["high"] < 0
    words = f"{found['value']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})"
    return {"pair": f"{each['second']} minus {each['first']}", "words": words, "clear": clear}


def _interval(figure: Mapping[str, float]) -> str:
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


def _said(result: Mapping[str, Any]) -> list[str]:
    """What the differences show, in sentences that follow from them."""
    found = {(d["first"], d["second"]): d["second_minus_first"] for d in result["differences"]}
    said = [_learned(arm, found[UNTRAINED, arm]) for arm in ARMS]
    said += [_compared(second, found[REAL_A, second]) for second in (SYNTHETIC_A, BOTH)]
    if not any(found[UNTRAINED, arm]["low"] > 0 for arm in ARMS):
        said.append(
            "Where no arm beats an untrained encoder, differences between arms do not say what "
            "their tiles are worth."
        )
    return said


def _learned(arm: str, gain: Mapping[str, float]) -> str:
    if gain["low"] > 0:
        return f"**{arm}** learned something: it beats an untrained encoder by {_interval(gain)}."
    if gain["high"] < 0:
        return f"**{arm}** is *worse* than an untrained encoder: {_interval(gain)}."
    return (
        f"**{arm}** cannot be told from an untrained encoder: with this budget the tiles hardly "
        "matter."
    )


def _compared(second: str, gain: Mapping[str, float]) -> str:
    if gain["low"] <= 0 <= gain["high"]:
        return (
            f"**{second}** and **{REAL_A}** cannot be told apart: the interval of the difference "
            "holds 0."
        )
    word = "better" if gain["low"] > 0 else "worse"
    return f"**{second}** is {word} than **{REAL_A}**: {_interval(gain)}, without 0."
