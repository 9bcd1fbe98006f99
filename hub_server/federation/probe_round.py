"""A probe round at the hub: a linear probe that goes to all sites and comes back as their mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hub_server.federation.asking import Asking
from hub_server.federation.combining import combine
from hub_server.federation.kept_arrays import answer_of, keep_start, start_of
from hub_server.federation.rounds import Heard
from pixcell_share.federation import Answer, Outcome, Reason
from pixcell_share.federation.encoder_asks import PROBE, ProbeAsk
from pixcell_share.ssl import ARCHITECTURES


def conduct(asking: Asking) -> Mapping[str, Any]:
    """As many exchanges as were asked for, each from the mean of the one before.

    The figures of an exchange are those of the probe that it began with, so one more exchange
    judges the last probe.
    """
    ask, folder = ProbeAsk.of(asking.wanted.ask), asking.folder.folder
    start = start_of(folder)
    width = ARCHITECTURES[ask.architecture].width
    weight = np.zeros((len(ask.labels), width), np.float32)
    probe = {PROBE + "weight": weight, PROBE + "bias": weight[:, 0].copy()}
    steps: list[dict[str, Any]] = []
    lacking = True
    for step in range(ask.rounds + 1):
        # Sites keep their embeddings for the round; who was away when the encoder came says so.
        heard = asking.ask(step, {**probe, **(start if lacking else {})})
        lacking = any(_lacks_encoder(each.answer) for each in heard)
        took_part = [each for each in heard if each.answer.outcome is Outcome.DONE]
        steps.append({each.site: dict(each.answer.result) for each in took_part})
        updates = {each.site: answer_of(folder, step, each.site) for each in took_part}
        good = [site for site, found in updates.items() if _fits(found, probe)]
        if not good or step == ask.rounds:
            break
        weights = [_patients(took_part, site) for site in good]
        probe = dict(combine("fedavg", [updates[site] for site in good], weights))
    keep_start(folder / "probe", probe)
    return {"classes": list(ask.labels), "exchanges": steps}


def _lacks_encoder(answer: Answer) -> bool:
    return answer.outcome is Outcome.REFUSED and answer.reason is Reason.WEIGHTS


def _fits(found: Mapping[str, Any], probe: Mapping[str, Any]) -> bool:
    shapes = {name: array.shape for name, array in found.items()}
    return shapes == {name: array.shape for name, array in probe.items()} and all(
        array.dtype == np.float32 and np.isfinite(array).all() for array in found.values()
    )


def _patients(heard: list[Heard], site: str) -> float:
    result = next(each.answer.result for each in heard if each.site == site)
    return max(1.0, float(result["patients"]))
