"""What a round came to, row by row, for tables and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hub_server.federation.rounds import Heard

COLUMNS = ("site", "outcome", "reason", "verdict", "tiles", "dropped", "patients", "cohort")


def cohort_rows(answers: Sequence[Heard]) -> list[tuple[str, ...]]:
    """A row for each site that answered a cohort round, as `COLUMNS` names it."""
    return [_row(heard) for heard in answers]


def _row(heard: Heard) -> tuple[str, ...]:
    result: dict[str, Any] = dict(heard.answer.result)
    counts = result.get("counts", {})
    return (
        heard.site,
        heard.answer.outcome.value,
        heard.answer.reason.value,
        str(result.get("verdict", "")),
        str(counts.get("tiles_released", "")),
        str(counts.get("tiles_dropped", "")),
        str(counts.get("patients", "")),
        str(result.get("bundle", ""))[:8],
    )
