"""Encoders: the list, one of them with its lineage and card, and its files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub_server.registry import Cohort, CohortState, Encoder, Evaluation, encoders, lineage
from hub_server.storage import Storage
from hub_server.web.pages._paging import pages_of
from hub_server.web.pages._render import page
from hub_server.web.pages._rules import Anybody
from hub_server.web.results import results_of
from hub_server.web.state import hub_of
from pixcell_share.errors import HubError, NotFoundError
from pixcell_share.wire import Refusal

router = APIRouter(prefix="/encoders", include_in_schema=False)
Id = Annotated[str, Path(max_length=64)]
_BLOCK = 1 << 20


@dataclass(frozen=True)
class EncoderFile:
    """One file of an encoder."""

    name: str
    """Below the encoder's folder."""
    size: int
    """In bytes."""


@router.get("")
def listed(request: Request, person: Anybody, part: int = 1) -> Response:
    """All encoders, and whether something they learned from was withdrawn."""
    with hub_of(request).registry.reading() as session:
        found = encoders.list_encoders(session)
        known = _cohorts(session, found)
        evaluated = set(session.scalars(select(Evaluation.encoder_id)))
    tainted = {
        encoder.id
        for encoder in found
        if any(known[i].state is CohortState.WITHDRAWN for i in _own(encoder))
    }
    return page(
        request,
        person,
        "encoders.html",
        part=pages_of(found, part, request),
        cohorts=known,
        tainted=tainted,
        evaluated=evaluated,
    )


@router.get("/{encoder_id}")
def one(request: Request, person: Anybody, encoder_id: Id) -> Response:
    """All about an encoder."""
    hub = hub_of(request)
    with hub.registry.reading() as session:
        encoder = _found(session, encoder_id)
        direct = set(_own(encoder))
        ids = lineage.learned_from(session, encoder)
        known = {i: session.get_one(Cohort, i) for i in ids}
        for cohort in known.values():
            _ = cohort.site
        evaluations = encoders.evaluations_of(session, encoder)
    return page(
        request,
        person,
        "encoder.html",
        encoder=encoder,
        cohorts=known,
        further=[known[i] for i in ids if i not in direct],
        withdrawn=[c for c in known.values() if c.state is CohortState.WITHDRAWN],
        results=results_of(evaluations),
        files=list(_files(hub.storage, encoder)),
    )


@router.get("/{encoder_id}/files/{name:path}")
def file(
    request: Request,
    person: Anybody,
    encoder_id: Id,
    name: str,
    terms: Annotated[str, Query(max_length=10)] = "",
) -> Response:
    """One file, for those who say that they have read the terms.

    Raises:
        HubError: they have not said it.
        NotFoundError: there is no such file.
    """
    hub = hub_of(request)
    with hub.registry.reading() as session:
        encoder = _found(session, encoder_id)
    wanted = next((f for f in _files(hub.storage, encoder) if f.name == name), None)
    if wanted is None:
        raise NotFoundError("the encoder has no such file", "see its page")
    if encoder.noncommercial and terms != "read":
        raise HubError(
            "the terms of the data carry over to these weights",
            "tick the box on the encoder's page",
            Refusal.CONFLICT,
        )
    shown = f"{encoder.name}-{name.replace('/', '-')}"
    headers = {
        "Content-Disposition": f'attachment; filename="{_ascii(shown)}"',
        "Content-Length": str(wanted.size),
    }
    stream = hub.storage.get(f"{encoder.folder}/{name}")
    return StreamingResponse(_blocks(stream), 200, headers, "application/octet-stream")


def _found(session: Session, encoder_id: str) -> Encoder:
    encoder = encoders.find_encoder(session, encoder_id)
    _ = encoder.sources
    return encoder


def _own(encoder: Encoder) -> list[str]:
    """Ids of the cohorts that it was trained on itself."""
    return [source.cohort_id for source in encoder.sources if source.cohort_id]


def _cohorts(session: Session, found: list[Encoder]) -> dict[str, Cohort]:
    wanted = {cohort_id for encoder in found for cohort_id in _own(encoder)}
    rows = session.scalars(select(Cohort).where(Cohort.id.in_(wanted)))
    known = {cohort.id: cohort for cohort in rows}
    for cohort in known.values():
        _ = cohort.site
    return known


def _files(storage: Storage, encoder: Encoder) -> Iterator[EncoderFile]:
    for key in storage.list(encoder.folder):
        with storage.get(key) as stream:
            size = stream.seek(0, os.SEEK_END)
        yield EncoderFile(key.removeprefix(f"{encoder.folder}/"), size)


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    with stream:
        while block := stream.read(_BLOCK):
            yield block


def _ascii(name: str) -> str:
    """A name that may stand in a header field."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
