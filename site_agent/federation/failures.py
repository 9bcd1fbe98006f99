"""Whatever went wrong at a site, as a code: the words stay in the site's own log."""

from __future__ import annotations

from pixcell_share.errors import (
    HubError,
    LedgerError,
    PixcellError,
    ReleaseRefusedError,
    SettingsError,
    SlideError,
    StorageError,
    WeightsError,
)
from pixcell_share.federation import Outcome, Reason, RefusedRoundError

_REFUSALS = {ReleaseRefusedError: Reason.GATE, LedgerError: Reason.LEDGER}
_FAILURES: dict[type[PixcellError], Reason] = {
    SlideError: Reason.NO_DATA,
    WeightsError: Reason.WEIGHTS,
    StorageError: Reason.STORAGE,
    HubError: Reason.HUB,
    SettingsError: Reason.SETTINGS,
}


def code_of(error: BaseException) -> tuple[Outcome, Reason]:
    """What the hub is told of ``error``."""
    if isinstance(error, RefusedRoundError):
        return error.outcome, error.reason
    for kind, reason in _REFUSALS.items():
        if isinstance(error, kind):
            return Outcome.REFUSED, reason
    for kind, reason in _FAILURES.items():
        if isinstance(error, kind):
            return Outcome.FAILED, reason
    return Outcome.FAILED, Reason.INTERNAL
