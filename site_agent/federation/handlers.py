"""Kinds of rounds and what a site does for each: a kind that is not here is refused.

A kind is added by a `Handler` in `HANDLERS`. `permit` is asked before any work, and must not read
slides; `work` does it. Both refuse with a `RefusedRoundError`; whatever else they raise becomes a
code (`site_agent.federation.failures`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pixcell_share.federation import RoundKind
from site_agent.federation.cohort_round import CohortRound
from site_agent.federation.desk import Desk

Arrays = dict[str, NDArray[np.generic]]


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


@dataclass(frozen=True)
class WithArrays:
    """A result that arrays belong to, such as the update of a LoRA."""

    result: Mapping[str, Any]
    arrays: Arrays = field(default_factory=dict)


HANDLERS: dict[RoundKind, Handler] = {RoundKind.COHORT: CohortRound()}
"""By kind."""
