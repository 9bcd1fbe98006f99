"""``docs/two-site.md`` and its plot, from the stored result alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _table1_data import CLASSES
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pixcell_share.files import atomic_write_text

_TOP, _ROW = 24, 46
_LEFT, _WIDTH, _GAP = 200, 270, 60
_TASKS = ("knn", "linear_probing")
_SITES = ("A", "B")
Figure = Mapping[str, float]


def write_report(result: Mapping[str, Any], docs: Path) -> None:
    """Write the page and the plot.

    Args:
        result: of ``two_site.py``.
        docs: the folder of the documents.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined,
        keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    arms = result["arms"]
    page = environment.get_template("_two_site_page.md.j2").render(
        table=[_line(arm) for arm in arms],
        privacy=[_privacy(arm) for arm in arms if arm.get("records")],
        chance=f"{1 / len(CLASSES):.2f}",
        said=_said(arms),
        adapter=result["settings"]["adapter"],
        data=result["settings"]["data"],
        cohort=result["settings"]["cohort"],
        groups=result["groups"],
    )
    atomic_write_text(docs / "two-site.md", page)
    plot = environment.get_template("_two_site_plot.svg.j2").render(**_plot(arms))
    atomic_write_text(docs / "images" / "two_site.svg", plot)


def mean_figure(arm: Mapping[str, Any]) -> Figure:
    """The mean of both protocols; that of the bounds is a little too wide for its interval."""
    figures = [arm["figures"][task] for task in _TASKS]
    return {key: sum(each[key] for each in figures) / len(figures) for key in figures[0]}


def _words(figure: Figure) -> str:
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


def _line(arm: Mapping[str, Any]) -> list[str]:
    cells = [arm["name"], str(arm["tiles"]), *(_words(arm["figures"][task]) for task in _TASKS)]
    if "linkage" not in arm:
        return [*cells, "the tiles themselves", "the tiles themselves", ""]
    verdicts = ", ".join(arm["verdicts"][site] for site in _SITES)
    return [*cells, *(_words(arm["linkage"][site]) for site in _SITES), verdicts]


def _privacy(arm: Mapping[str, Any]) -> list[str]:
    records = arm["records"]
    spent = [r["epsilon"] for r in records]
    words = " and ".join("no guarantee" if e is None else f"{e:.2f}" for e in spent)
    return [
        arm["name"],
        words,
        " and ".join(f"{r['noise_multiplier']:.2f}" for r in records),
        " and ".join(f"{r['sampling_rate']:.3f}" for r in records),
        str(records[0]["steps"]),
        f"{records[0]['adapter_bytes']:,}",
    ]


def _said(arms: Sequence[Mapping[str, Any]]) -> list[str]:
    """What may be read from intervals that overlap or not."""
    by = {arm["name"]: arm for arm in arms}
    pooled = mean_figure(by["pooled real"])
    found = []
    for site in _SITES:
        alone = mean_figure(by[f"site {site} alone"])
        clear = alone["high"] < pooled["low"]
        apart = "a clear difference" if clear else "the intervals overlap"
        found.append(
            f"Site {site} alone reads tiles of both stains at {alone['value']:.3f}, both pooled "
            f"at {pooled['value']:.3f}: {apart}."
        )
    synthetic = mean_figure(by["pooled synthetic"])
    found.append(
        f"Pooled synthetic tiles come to {synthetic['value']:.3f}, "
        f"{synthetic['value'] - pooled['value']:+.3f} from pooled real ones."
    )
    adapted = [arm for arm in arms if arm.get("records")]
    values = [mean_figure(arm)["value"] for arm in adapted]
    alike = all(
        mean_figure(a)["low"] <= synthetic["value"] <= mean_figure(a)["high"] for a in adapted
    )
    found.append(
        f"With adapters it is {min(values):.3f} to {max(values):.3f}: "
        + ("none can be told from nano as it is." if alike else "see the intervals in the table.")
    )
    single = _residuals([by["pooled synthetic, mix 1"]])
    mixed = _residuals([by["pooled synthetic"], *adapted])
    found.append(
        f"With one group behind each tile the residual of linkage is {min(single):.3f} and "
        f"{max(single):.3f} at the two sites, with several {min(mixed):.3f} to {max(mixed):.3f} "
        "over all cohorts. The intervals are wide, and no order by epsilon is to be read from "
        "single draws."
    )
    return found


def _residuals(arms: Sequence[Mapping[str, Any]]) -> list[float]:
    return [arm["linkage"][site]["value"] for arm in arms for site in _SITES]


class _Panel:
    """One axis of the plot."""

    def __init__(self, name: str, left: int, low: float, high: float, step: float) -> None:
        self.name, self._left, self._low, self._high = name, left, low, high
        count = round((high - low) / step)
        marks = [low + step * n for n in range(count + 1)]
        self.ticks = [(self.place(mark), f"{mark:.2f}") for mark in marks]
        self.middle = left + _WIDTH / 2

    def place(self, value: float) -> float:
        share = (min(max(value, self._low), self._high) - self._low) / (self._high - self._low)
        return round(self._left + _WIDTH * share, 1)

    def mark(self, name: str, figure: Figure, y: float) -> dict[str, Any]:
        places = {end: self.place(figure[end]) for end in ("low", "high")}
        return {"x": self.place(figure["value"]), **places, "y": y,
                "title": f"{name}: {_words(figure)}"}  # fmt: skip


def _plot(arms: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    uses = [mean_figure(arm) for arm in arms]
    risks = [arm["linkage"][site] for arm in arms if "linkage" in arm for site in _SITES]
    low = int(min(use["low"] for use in uses) * 20) / 20
    high = max(0.1, int(max(risk["high"] for risk in risks) * 20 + 1) / 20)
    use = _Panel("balanced accuracy, 95 % interval", _LEFT, low, 1.0, 0.1 if low < 0.7 else 0.05)
    risk = _Panel("residual of patient linkage, 95 % interval", _LEFT + _WIDTH + _GAP, 0.0, high,
                  0.1 if high > 0.3 else 0.05)  # fmt: skip
    rows = []
    for number, arm in enumerate(arms):
        y = _TOP + _ROW * (number + 0.5)
        marks = [use.mark(arm["name"], mean_figure(arm), y)]
        for site, shift in zip(_SITES, (-7, 7), strict=True):
            if "linkage" in arm:
                marks.append(risk.mark(f"site {site}", arm["linkage"][site], y + shift))
        rows.append({"name": arm["name"], "kind": arm["kind"], "y": y, "marks": marks})
    bottom = _TOP + _ROW * len(arms)
    return {"panels": [use, risk], "rows": rows, "top": _TOP, "bottom": bottom}
