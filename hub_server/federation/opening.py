"""Open a round, and watch it. The supervisor of the served hub carries it on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from hub_server.acts import Acts
from hub_server.federation.catalogue import ASKS
from hub_server.federation.kept_arrays import Arrays
from hub_server.federation.places import Places
from hub_server.federation.rounds import Heard, Round, RoundFolder
from pixcell_share.errors import SettingsError
from pixcell_share.federation import RefusedRoundError, RoundKind

_LOOK_EVERY_S = 0.5


def parse_ask(kind: RoundKind, words: Mapping[str, str]) -> dict[str, Any]:
    """What a person wrote as ``name=value``, as the kind's document.

    Raises:
        SettingsError: a name is unknown, or a value of another kind.
    """
    asks = ASKS[kind]
    kinds = {name: type(value) for name, value in asks.defaults().items()}
    found: dict[str, Any] = {}
    for name, text in words.items():
        if name not in kinds:
            known = ", ".join(sorted(kinds))
            raise SettingsError(f"a {kind} round has no {name!r}", f"known: {known}")
        try:
            found[name] = kinds[name](text)
        except ValueError as error:
            raise SettingsError(f"{name}={text} is no {kinds[name].__name__}", "mend it") from error
    try:
        return asks.of({**asks.defaults(), **found}).document()
    except RefusedRoundError as error:
        raise SettingsError(f"no site could do what {found} asks", "ask for less") from error


def open_round(
    acts: Acts, kind: RoundKind, ask: Mapping[str, Any], arrays: Arrays | None = None, **how: Any
) -> Round:
    """Write down a new round, with a line in the log.

    Args:
        acts: whose.
        kind: of the round.
        ask: the document, from `parse_ask`.
        arrays: what goes along with the first step.
        how: fields of `Round`: ``expected``, ``wait_s``.
    """
    made = RoundFolder.begin(Places(acts.home).rounds, kind, ask, arrays, **how)
    details = {"kind": kind.value, "ask": dict(ask)}
    acts.log.append("round.open", actor=acts.actor, subject=made.id, details=details)
    return made


def watch_round(
    folder: RoundFolder, on_answer: Callable[[Heard], object] = lambda heard: None
) -> Round:
    """Look until a round is closed.

    Args:
        folder: of the round.
        on_answer: told each answer once, as it comes.
    """
    told: set[tuple[str, int]] = set()
    while True:
        wanted = folder.load()
        for heard in folder.answers():
            if (place := (heard.site, heard.answer.step)) not in told:
                told.add(place)
                on_answer(heard)
        if wanted.state != "open":
            return wanted
        time.sleep(_LOOK_EVERY_S)
