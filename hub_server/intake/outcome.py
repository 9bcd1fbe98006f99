"""What came of an intake."""

from __future__ import annotations

from dataclasses import dataclass

from hub_server.intake.reasons import Reason
from hub_server.registry import CohortState


@dataclass(frozen=True)
class IntakeOutcome:
    """Accepted or rejected, and why."""

    cohort: str
    """SHA-256 of the bundle's manifest; empty where no manifest could be read."""
    state: CohortState
    reason: Reason | None = None
    """The code of the rejection."""
    detail: str = ""
    """Its cause in plain words, which may name a file or a field of the bundle."""

    @property
    def accepted(self) -> bool:
        """Whether the cohort may be used."""
        return self.state is CohortState.ACCEPTED
