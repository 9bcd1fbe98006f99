"""A cohort round at a site: synthesise, audit, sign, send. The hub gets a receipt."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pixcell_share.federation import CohortAsk, Outcome, Reason, RefusedRoundError
from site_agent.federation.desk import Desk
from site_agent.federation.own_data import data_settings

if TYPE_CHECKING:
    from site_agent.settings import SynthesisSettings

_GIVE_UP_S = 600.0
"""Without progress of the upload; the hub asks again."""


class CohortRound:
    """Handles `pixcell_share.federation.CohortAsk`."""

    def permit(self, desk: Desk) -> None:
        """Model, number and epsilon; the slides themselves are counted before any is opened.

        Raises:
            RefusedRoundError: one of them is more than the site allows.
        """
        ask, policy = CohortAsk.of(desk.request.ask), desk.policy
        if ask.model not in policy.models:
            raise RefusedRoundError(Reason.MODEL)
        if ask.tiles_per_class > policy.tiles_per_class:
            raise RefusedRoundError(Reason.TILES)
        if ask.dp_epsilon > policy.epsilon:
            raise RefusedRoundError(Reason.EPSILON)
        if not (policy.slides or policy.tiles):
            raise RefusedRoundError(Reason.NO_DATA)

    def work(self, desk: Desk, arrays: object) -> Mapping[str, Any]:
        """Run the main job, send what it signed, and wait for the hub's verdict.

        Raises:
            RefusedRoundError: a class would have more tiles than the site allows, or the hub
                rejected the bundle.
            PixcellError: see `site_agent.pipeline.synthesize` and `site_agent.sending.send`.
        """
        from site_agent.delivery import SendSettings
        from site_agent.pipeline import synthesize
        from site_agent.sending import send

        ask = CohortAsk.of(desk.request.ask)
        made = synthesize(settings_for(ask, desk), desk.home, desk.key, desk.view)
        assert made.bundle is not None
        sent = send(made.bundle, desk.home, desk.view, SendSettings(give_up_after_s=_GIVE_UP_S))
        if sent.state != "accepted":
            raise RefusedRoundError(Reason.HUB, Outcome.FAILED)
        counts = ("tiles_released", "tiles_dropped", "patients", "patients_set_aside")
        return {
            "bundle": sent.bundle,
            "state": sent.state,
            "verdict": made.verdict,
            "counts": {name: made.counts[name] for name in counts},
        }


def settings_for(ask: CohortAsk, desk: Desk) -> SynthesisSettings:
    """What the hub asks for, on the site's own slides.

    Raises:
        RefusedRoundError: no choice of tiles keeps within the site's limit for a class.
    """
    from pixcell_share.pixcell import SamplerSettings

    return data_settings(
        desk,
        desk.folder / "run",
        model=desk.policy.models[ask.model],
        mix=ask.mix,
        dp_epsilon=ask.dp_epsilon or None,
        max_tiles=_tiles_per_slide(ask, desk, data_settings(desk, desk.folder)),
        sampler=SamplerSettings(steps=ask.steps),
    )


def _tiles_per_slide(ask: CohortAsk, desk: Desk, settings: SynthesisSettings) -> int:
    """Of each slide so many that the smallest class has what was asked, within the limit."""
    from site_agent.groups import split_patients
    from site_agent.inputs import UNLABELLED, find_records

    records = find_records(settings)
    groups = split_patients(records, settings.holdout, desk.key)
    slides = Counter(r.label or UNLABELLED for r in records if groups.conditions(r))
    wanted = math.ceil(ask.tiles_per_class / min(slides.values()))
    allowed = desk.policy.tiles_per_class // max(slides.values())
    if allowed < 1:
        raise RefusedRoundError(Reason.TILES)
    return min(wanted, allowed)
