"""A cohort round at the hub: the cohorts came by the upload, the answers are receipts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hub_server.federation.asking import Asking
from pixcell_share.federation import Outcome


def conduct(asking: Asking) -> Mapping[str, Any]:
    """Ask once; the digests of the bundles that sites say were accepted."""
    heard = asking.ask()
    done = [each.answer.result for each in heard if each.answer.outcome is Outcome.DONE]
    return {"cohorts": sorted(str(result["bundle"]) for result in done)}
