"""What a site says when it does no work: a code, never a text of its own making.

An exception's words hold paths, names of slides, or figures. So nothing that was caught is ever
sent, only which of these it comes to.
"""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """How a site answered."""

    DONE = "done"
    REFUSED = "refused"
    """By the site's policy or its gate, before or after the work."""
    FAILED = "failed"
    """It tried, and could not."""


class Reason(StrEnum):
    """Why a site refused or failed."""

    NONE = ""
    UNKNOWN_TYPE = "unknown_type"
    """This version of the site's program has no such round."""
    NOT_BY_HUB = "not_by_hub"
    """The request is not signed by the hub that the site joined."""
    MALFORMED = "malformed"
    """A field of the request is missing or of another kind."""
    NOT_ALLOWED = "not_allowed"
    """``rounds`` in site.toml does not name this kind."""
    MODEL = "model_not_allowed"
    TILES = "too_many_tiles"
    EPSILON = "epsilon_too_large"
    NO_PRIVACY = "no_differential_privacy"
    HOURS = "outside_hours"
    BUSY = "gpu_busy"
    NO_DATA = "no_data"
    """No slides are set for federation, or none can be read."""
    TOO_FEW = "too_few"
    """Fewer patients or tiles than the site asks for."""
    GATE = "refused_by_gate"
    """The privacy checks refused the release."""
    BUDGET = "budget_spent"
    LEDGER = "ledger"
    ROUND_CHANGED = "round_changed"
    """The same round was asked before with other words."""
    SETTINGS = "settings"
    """The site's own settings do not fit what was asked."""
    STORAGE = "storage"
    WEIGHTS = "weights"
    HUB = "hub_said_no"
    """The upload was not taken."""
    STOPPED = "stopped"
    """The agent was asked to stop, or the working hours ended; the work done is kept."""
    INTERNAL = "internal"
    """Anything else; what it was stands in the site's own log."""


class RefusedRoundError(Exception):
    """A site will not, or cannot, do what was asked; carries a code and nothing else."""

    def __init__(self, reason: Reason, outcome: Outcome = Outcome.REFUSED) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.outcome = outcome
