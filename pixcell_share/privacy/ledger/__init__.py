"""What each patient of a site has been exposed to, across all releases.

A run spends before it signs: `Ledger.spend` refuses where a patient's total would pass the site's
`Budget`. What was spent stays spent, also where the run died before it signed; the same run,
started again, finds its own spend and pays nothing more.
"""

from pixcell_share.privacy.ledger.budget import Budget, Exposure, Total
from pixcell_share.privacy.ledger.files import Mark
from pixcell_share.privacy.ledger.ledger import Ledger, Spent
from pixcell_share.privacy.ledger.state import LedgerState, Release
from pixcell_share.privacy.ledger.summary import describe, lines

__all__ = [
    "Budget",
    "Exposure",
    "Ledger",
    "LedgerState",
    "Mark",
    "Release",
    "Spent",
    "Total",
    "describe",
    "lines",
]
