"""What a hub and its sites share in a federation: kinds of rounds, signed documents, reasons.

Flower carries them (`records`); nothing else here imports it.
"""

from pixcell_share.federation.asks import Ask, CohortAsk
from pixcell_share.federation.documents import Answer, Request
from pixcell_share.federation.kinds import RoundKind
from pixcell_share.federation.reasons import Outcome, Reason, RefusedRoundError
from pixcell_share.federation.sealed import Sealed, SealError

__all__ = [
    "Answer",
    "Ask",
    "CohortAsk",
    "Outcome",
    "Reason",
    "RefusedRoundError",
    "Request",
    "RoundKind",
    "SealError",
    "Sealed",
]
