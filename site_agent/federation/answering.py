"""From a request to an answer: checks, policy, work. Nothing is raised, nothing is told but codes.

An answer that stands is kept with its round. Whoever delivers the request again gets the same
answer and no work is done twice: a cohort is released once and a budget is spent once.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from datetime import datetime

from pixcell_share.bundles import SiteKey
from pixcell_share.federation import (
    Answer,
    Outcome,
    Reason,
    RefusedRoundError,
    Request,
    RoundKind,
    Sealed,
    SealError,
)
from pixcell_share.federation.records import arrays_digest
from site_agent.federation.desk import Desk, noted_as_working
from site_agent.federation.failures import code_of
from site_agent.federation.handlers import HANDLERS, Arrays, WithArrays
from site_agent.federation.kept import Kept
from site_agent.federation.watch import gpu_locked
from site_agent.home import SiteHome

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reply:
    """A signed answer and the arrays that belong to it."""

    sealed: Sealed
    arrays: Arrays = field(default_factory=dict)


def answer(
    home: SiteHome, hub_key_id: str, kind: RoundKind | None, sealed: Sealed, arrays: Arrays
) -> Reply:
    """Do what a hub asks, or say by a code why not.

    Args:
        home: the site's.
        hub_key_id: fingerprint of the hub that the site joined.
        kind: what the message says it is; None if nothing that this version knows.
        sealed: the request.
        arrays: what came with it.
    """
    key = home.load_key()
    try:
        if kind is None:
            raise RefusedRoundError(Reason.UNKNOWN_TYPE)
        request = _opened(sealed, hub_key_id, kind, arrays)
    except RefusedRoundError as error:
        _log.warning("a request was refused: %s", error.reason)
        return _sealed(key, _unread(sealed, kind, error.reason))
    try:
        desk = Desk(home, home.config().federation, key, request)
        return _once(desk, sealed, arrays)
    except Exception as error:
        outcome, reason = code_of(error)
        _log.exception("round %s: %s", request.round[:8], reason)
        return _sealed(key, _answer(request, sealed, outcome, reason))


def _once(desk: Desk, sealed: Sealed, arrays: Arrays) -> Reply:
    """What was answered before, or the work and its answer, kept."""
    kept = Kept(desk.folder, desk.request.step, sealed)
    if (before := kept.answer()) is not None:
        return Reply(*before)
    reply = _worked(desk, sealed, arrays)
    kept.keep(reply.sealed, reply.arrays)
    return reply


def _opened(sealed: Sealed, hub_key_id: str, kind: RoundKind, arrays: Arrays) -> Request:
    """The request, if the hub signed it, for this kind and with these arrays."""
    try:
        request = Request.of(sealed.open("request", hub_key_id))
    except SealError as error:
        raise RefusedRoundError(Reason.NOT_BY_HUB) from error
    if request.kind is not kind:
        raise RefusedRoundError(Reason.MALFORMED)
    if request.arrays_sha256 != arrays_digest(arrays):
        raise RefusedRoundError(Reason.NOT_BY_HUB)
    return request


def _worked(desk: Desk, sealed: Sealed, arrays: Arrays) -> Reply:
    request, policy = desk.request, desk.policy
    if not policy.allows(request.kind):
        raise RefusedRoundError(Reason.NOT_ALLOWED)
    handler = HANDLERS.get(request.kind)
    if handler is None:
        raise RefusedRoundError(Reason.UNKNOWN_TYPE)
    handler.permit(desk)
    if not policy.works_at(datetime.now()):
        raise RefusedRoundError(Reason.HOURS)
    with gpu_locked(policy), noted_as_working(desk):
        done = handler.work(desk, arrays)
    result = done if isinstance(done, WithArrays) else WithArrays(done)
    said = Answer(
        request.round, request.kind, request.step, sealed.sha256, Outcome.DONE,
        result=result.result, arrays_sha256=arrays_digest(result.arrays),
    )  # fmt: skip
    return Reply(Sealed.seal(said.document(), "answer", desk.key), result.arrays)


def _answer(request: Request, sealed: Sealed, outcome: Outcome, reason: Reason) -> Answer:
    return Answer(request.round, request.kind, request.step, sealed.sha256, outcome, reason)


def _unread(sealed: Sealed, kind: RoundKind | None, reason: Reason) -> Answer:
    """To a request that cannot be believed: its own words only say which one is refused."""
    try:
        said = json.loads(sealed.payload[:4096])
        number = said["round"] if isinstance(said["round"], str) else ""
    except (ValueError, KeyError, TypeError, RecursionError):
        number = ""
    return Answer(number[:32], kind or RoundKind.COHORT, 0, sealed.sha256, Outcome.REFUSED, reason)


def _sealed(key: SiteKey, said: Answer) -> Reply:
    return Reply(Sealed.seal(said.document(), "answer", key))
