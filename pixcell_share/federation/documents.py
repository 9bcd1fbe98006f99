"""What is asked and what is answered, as typed documents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pixcell_share.federation.kinds import RoundKind
from pixcell_share.federation.reasons import Outcome, Reason, RefusedRoundError

_ROUND = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}|")


@dataclass(frozen=True)
class Request:
    """What a hub asks of every site in one step of a round."""

    round: str
    """32 hex digits, new for each round."""
    kind: RoundKind
    ask: Mapping[str, Any]
    """What is asked, by the kind's own fields (`pixcell_share.federation.asks`)."""
    step: int = 0
    """Of a round with several, from 0."""
    arrays_sha256: str = ""
    """Of the arrays that come along, see `arrays_digest`; empty for none."""

    def document(self) -> dict[str, Any]:
        """As it is signed."""
        return {**asdict(self), "kind": self.kind.value}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Request:
        """Read a signed document.

        Raises:
            RefusedRoundError: a field is missing or of another kind.
        """
        try:
            found = cls(**{**document, "kind": RoundKind(document["kind"])})
        except (KeyError, TypeError, ValueError) as error:
            raise RefusedRoundError(Reason.MALFORMED) from error
        step_fits = type(found.step) is int and 0 <= found.step < 100_000
        texts = (found.round, _ROUND), (found.arrays_sha256, _SHA256)
        fits = all(isinstance(text, str) and form.fullmatch(text) for text, form in texts)
        if not (step_fits and fits and isinstance(found.ask, dict)):
            raise RefusedRoundError(Reason.MALFORMED)
        return found


@dataclass(frozen=True)
class Answer:
    """What a site answers to one request."""

    round: str
    kind: RoundKind
    step: int
    request_sha256: str
    """Of the signed request that it answers."""
    outcome: Outcome
    reason: Reason = Reason.NONE
    result: Mapping[str, Any] = field(default_factory=dict)
    """Receipts, counts and figures, by the kind."""
    arrays_sha256: str = ""

    def document(self) -> dict[str, Any]:
        """As it is signed."""
        return asdict(self)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Answer:
        """Read a signed document.

        Raises:
            ValueError: a field is missing or of another kind.
        """
        try:
            found = cls(
                **{
                    **document,
                    "kind": RoundKind(document["kind"]),
                    "outcome": Outcome(document["outcome"]),
                    "reason": Reason(document["reason"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise ValueError("not an answer") from error
        if type(found.step) is not int or not isinstance(found.result, dict):
            raise ValueError("not an answer")
        return found
