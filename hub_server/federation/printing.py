"""What the commands of federations print, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hub_server.commands.options import show_rows
from pixcell_share import console

if TYPE_CHECKING:
    from hub_server.federation.rounds import Heard, Round, RoundFolder
    from hub_server.federation.simulating import Simulated

_CELL = 200
_COHORT = ("verdict", "tiles", "dropped", "patients", "cohort")


def show_rounds(rounds: Sequence[Round], as_json: bool) -> None:
    """A line for each round."""
    names = ("round", "kind", "state", "opened")
    rows = [(one.id, one.kind.value, one.state, one.opened[:19]) for one in rounds]
    if as_json:
        found = [dict(zip(names, row, strict=True)) for row in rows]
        console.print_json({"rounds": found, "exit_code": 0})
        return
    shown = [(row[0][:8], *row[1:]) for row in rows]
    show_rows(names, shown, "no round yet: pixcell-hub ask cohort")


def show_round(folder: RoundFolder, as_json: bool) -> None:
    """A round, and what each site answered."""
    if as_json:
        console.print_json({**describe(folder), "exit_code": exit_code(folder.load())})
        return
    one, answers = folder.load(), folder.answers()
    console.output().print(f"round {one.id[:8]}  {one.kind.value}  {one.state}")
    silent = [(site, "", "silent", reason) for site, reason in folder.silent().items()]
    if one.kind.value == "cohort":
        rows = [(*_who(heard), *_cohort(heard)) for heard in answers]
        empty = ("",) * len(_COHORT)
        rows += [(*who, *empty) for who in silent]
        show_rows(("site", "step", "outcome", "reason", *_COHORT), rows, "no site answered")
        return
    told = [(*_who(heard), _short(heard.answer.result)) for heard in answers]
    told += [(*who, "") for who in silent]
    show_rows(("site", "step", "outcome", "reason", "result"), told, "no site answered")
    if one.result:
        console.output().print_json(json.dumps(one.result))


def exit_code(one: Round) -> int:
    """1 for a round that failed."""
    return int(one.state == "failed")


def _short(result: Mapping[str, Any]) -> str:
    """Figures in a table's cell; what is long is shown by --json, and so is a signed record."""
    figures = {name: value for name, value in result.items() if name != "record"}
    text = json.dumps(figures) if figures else ""
    return text if len(text) <= _CELL else f"{text[:_CELL]}..."


def show_simulated(done: Simulated, as_json: bool) -> None:
    """Each round, and the figures of the encoder that was trained on what came."""
    if as_json:
        rounds = [describe(folder) for folder in done.rounds]
        board = list(done.leaderboard)
        console.print_json({"rounds": rounds, "leaderboard": board, "exit_code": 0})
        return
    for folder in done.rounds:
        show_round(folder, False)
    if done.leaderboard:
        rows = [(row["encoder"], _interval(row["mean"])) for row in done.leaderboard]
        console.output().print()
        show_rows(("encoder", "balanced accuracy on drawn tiles, 95 %"), rows, "")


def _interval(figure: Mapping[str, float]) -> str:
    return f"{figure['value']:.3f}  ({figure['low']:.3f} to {figure['high']:.3f})"


def describe(folder: RoundFolder) -> dict[str, Any]:
    """A round as ``--json`` prints it."""
    one = folder.load()
    said = [
        {
            "site": heard.site,
            "step": heard.answer.step,
            "outcome": heard.answer.outcome.value,
            "reason": heard.answer.reason.value,
            "result": dict(heard.answer.result),
        }
        for heard in folder.answers()
    ]
    return {
        "round": one.id,
        "kind": one.kind.value,
        "state": one.state,
        "ask": dict(one.ask),
        "answers": said,
        "silent": folder.silent(),
        "result": dict(one.result),
    }


def _who(heard: Heard) -> tuple[str, str, str, str]:
    answer = heard.answer
    return heard.site, str(answer.step), answer.outcome.value, answer.reason.value


def _cohort(heard: Heard) -> tuple[str, ...]:
    result: dict[str, Any] = dict(heard.answer.result)
    counts = result.get("counts", {})
    figures = (counts.get(name, "") for name in ("tiles_released", "tiles_dropped", "patients"))
    return (str(result.get("verdict", "")), *map(str, figures), str(result.get("bundle", ""))[:8])
