"""A probe round at a site: some steps of a linear probe that all sites train together."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from pixcell_share.federation import Reason, RefusedRoundError
from pixcell_share.federation.encoder_asks import PROBE, ProbeAsk
from site_agent.federation.desk import Desk
from site_agent.federation.own_tiles import Arrays, division_seed, own_tiles, permit_own_tiles
from site_agent.federation.work import WithArrays

if TYPE_CHECKING:
    from pixcell_share.evaluation import Probe


class ProbeRound:
    """Handles `ProbeAsk`. The weights of a probe tell of class means: no guarantee covers them."""

    def permit(self, desk: Desk) -> None:
        """The site has to allow weights without differential privacy.

        Raises:
            RefusedRoundError: it does not, or as of `permit_own_tiles`.
        """
        ask = ProbeAsk.of(desk.request.ask)
        if not desk.policy.without_dp:
            raise RefusedRoundError(Reason.NO_PRIVACY)
        permit_own_tiles(ask, desk)

    def work(self, desk: Desk, arrays: Arrays) -> WithArrays:
        """Judge the common probe on the test part, then train it on the training part.

        Raises:
            RefusedRoundError: too few patients, or a probe of another form.
        """
        from pixcell_share.evaluation import CountFloor, ProbeSettings, judge_probe, train_step

        ask = ProbeAsk.of(desk.request.ask)
        floor, seed = CountFloor(patients_per_class=desk.policy.patients), division_seed(desk)
        tiles = own_tiles(ask, desk, arrays)
        probe = _probe(arrays, (len(ask.labels), tiles.embeddings.shape[1]))
        settings = ProbeSettings(ask.steps, ask.rate, ask.weight_decay)
        step = train_step(tiles, probe, settings, floor, seed=seed)
        before = judge_probe(tiles, probe, floor, seed=seed)
        if step is None or before is None:
            raise RefusedRoundError(Reason.TOO_FEW)
        result = {"patients": step.patients, "loss": step.loss, "before": asdict(before)}
        moved = {"weight": step.probe.weight, "bias": step.probe.bias}
        return WithArrays(result, {PROBE + name: value for name, value in moved.items()})


def _probe(arrays: Arrays, shape: tuple[int, int]) -> Probe:
    from pixcell_share.evaluation import Probe

    found = {n.removeprefix(PROBE): a for n, a in arrays.items() if n.startswith(PROBE)}
    shapes = {name: array.shape for name, array in found.items()}
    if shapes != {"weight": shape, "bias": shape[:1]}:
        raise RefusedRoundError(Reason.MALFORMED)
    if not all(a.dtype == np.float32 and np.isfinite(a).all() for a in found.values()):
        raise RefusedRoundError(Reason.MALFORMED)
    return Probe(np.array(found["weight"]), np.array(found["bias"]))
