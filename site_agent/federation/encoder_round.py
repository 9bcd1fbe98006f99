"""An encoder round at a site: how good the hub's encoder is on the site's own labelled tiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pixcell_share.federation import Reason, RefusedRoundError
from pixcell_share.federation.encoder_asks import EncoderAsk
from site_agent.federation.desk import Desk
from site_agent.federation.own_tiles import Arrays, division_seed, own_tiles, permit_own_tiles


class EncoderRound:
    """Handles `EncoderAsk`: figures with intervals leave the site, and nothing else."""

    def permit(self, desk: Desk) -> None:
        """Known protocols and a known architecture.

        Raises:
            RefusedRoundError: one of them is not known, or no tiles are set for federation.
        """
        ask = EncoderAsk.of(desk.request.ask)
        if not set(ask.protocols) <= {"knn", "linear_probing"}:
            raise RefusedRoundError(Reason.MALFORMED)
        permit_own_tiles(ask, desk)

    def work(self, desk: Desk, arrays: Arrays) -> Mapping[str, Any]:
        """Embed, divide by patient, judge.

        Raises:
            RefusedRoundError: too few patients or tiles stand behind a figure.
        """
        from pixcell_share.evaluation import CountFloor, judge_encoder

        ask = EncoderAsk.of(desk.request.ask)
        floor = CountFloor(patients_per_class=desk.policy.patients)
        tiles = own_tiles(ask, desk, arrays)
        found = judge_encoder(tiles, ask.protocols, floor, seed=division_seed(desk))
        if found is None:
            raise RefusedRoundError(Reason.TOO_FEW)
        return asdict(found)
