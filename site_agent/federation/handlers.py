"""Kinds of rounds and what a site does for each: a kind that is not here is refused.

A kind is added by a `Handler` in `HANDLERS`. `permit` is asked before any work, and must not read
slides; `work` does it. Both refuse with a `RefusedRoundError`; whatever else they raise becomes a
code (`site_agent.federation.failures`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from pixcell_share.federation import RoundKind
from site_agent.federation.adapter_round import AdapterRound
from site_agent.federation.cohort_round import CohortRound
from site_agent.federation.desk import Desk
from site_agent.federation.encoder_round import EncoderRound
from site_agent.federation.probe_round import ProbeRound
from site_agent.federation.work import Arrays, WithArrays

__all__ = ["HANDLERS", "Arrays", "Handler", "WithArrays"]


class Handler(Protocol):
    """What a site does for one kind of round."""

    def permit(self, desk: Desk) -> None:
        """Refuse what the site's policy does not allow.

        Raises:
            RefusedRoundError: with the reason.
        """

    def work(self, desk: Desk, arrays: Arrays) -> Mapping[str, Any] | WithArrays:
        """Do it.

        Args:
            desk: the request and the site.
            arrays: what came with the request, checked against its signed digest.

        Returns:
            The result that is signed: receipts, counts, figures; with arrays if the kind has some.
        """


HANDLERS: dict[RoundKind, Handler] = {
    RoundKind.COHORT: CohortRound(),
    RoundKind.ADAPTER: AdapterRound(),
    RoundKind.ENCODER: EncoderRound(),
    RoundKind.PROBE: ProbeRound(),
}
"""By kind."""
