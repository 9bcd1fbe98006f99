"""Encoders, what they were trained on, and how they did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub_server.registry.states import CohortState, SourceRole
from hub_server.registry.tables import Cohort, Encoder, EncoderSource, Evaluation
from pixcell_share.bundles import check_name
from pixcell_share.errors import NotFoundError, SettingsError, StateError


@dataclass(frozen=True)
class Source:
    """One thing that an encoder was trained on."""

    role: SourceRole
    cohort_id: str | None = None
    """A cohort of this hub; or else ``dataset``."""
    dataset: str | None = None
    """The name of data from elsewhere."""

    def __post_init__(self) -> None:
        if (self.cohort_id is None) == (self.dataset is None):
            raise SettingsError("a source is a cohort or a dataset", "name one of the two")


@dataclass(frozen=True)
class NewEncoder:
    """What `add_encoder` writes down."""

    name: str
    arch: str
    folder: str
    """Storage key of its files."""
    digest: str
    """SHA-256 of its weights, 64 hex digits."""
    card: Mapping[str, Any]
    sources: Sequence[Source]
    noncommercial: bool = False
    """Whether data other than cohorts of this hub forbid commercial use."""
    job_id: str | None = None


def add_encoder(session: Session, new: NewEncoder) -> Encoder:
    """Keep a trained encoder. Terms of its cohorts carry over to it.

    Raises:
        SettingsError: the name may not be shown.
        StateError: the name is taken, or a source is a cohort that is not accepted (any more).
    """
    check_name("encoder", new.name)
    if session.scalar(select(Encoder).where(Encoder.name == new.name)) is not None:
        raise StateError(f"there is an encoder {new.name!r}", "choose another name")
    cohorts = [_accepted(session, source.cohort_id) for source in new.sources if source.cohort_id]
    encoder = Encoder(
        name=new.name,
        arch=new.arch,
        folder=new.folder,
        digest=new.digest,
        card=dict(new.card),
        noncommercial=new.noncommercial or any(cohort.noncommercial for cohort in cohorts),
        job_id=new.job_id,
    )
    encoder.sources = [
        EncoderSource(
            position=position, role=source.role, cohort_id=source.cohort_id, dataset=source.dataset
        )
        for position, source in enumerate(new.sources)
    ]
    session.add(encoder)
    session.flush()
    return encoder


def find_encoder(session: Session, name: str) -> Encoder:
    """The encoder of that name or id.

    Raises:
        NotFoundError: there is none.
    """
    wanted = select(Encoder).where((Encoder.name == name) | (Encoder.id == name))
    encoder = session.scalar(wanted)
    if encoder is None:
        raise NotFoundError(f"there is no encoder {name!r}", "see `pixcell-hub leaderboard`")
    return encoder


def list_encoders(session: Session) -> list[Encoder]:
    """All encoders, the latest first."""
    return list(session.scalars(select(Encoder).order_by(Encoder.created_at.desc(), Encoder.id)))


def record_evaluation(
    session: Session, encoder: str, result: Mapping[str, Any], job_id: str | None = None
) -> Evaluation:
    """Keep a result; the latest of an encoder, dataset and task is the one that counts.

    Args:
        session: of the registry.
        encoder: name or id of an encoder of this hub, or else the name of one from elsewhere.
        result: ``EvaluationResult.to_dict()`` of `pixcell_share.evaluation`.
        job_id: the job that did it.

    Raises:
        SettingsError: a name may not be shown.
    """
    task, dataset = result["task"], result["dataset"]
    for field, value in (("encoder", encoder), ("dataset", dataset["name"]), ("task", task)):
        check_name(field, value)
    own = session.scalar(select(Encoder).where((Encoder.name == encoder) | (Encoder.id == encoder)))
    evaluation = Evaluation(
        encoder_id=own.id if own else None,
        external=None if own else encoder,
        dataset=dataset["name"],
        dataset_digest=dataset["digest"],
        task=task,
        result=dict(result),
        job_id=job_id,
    )
    session.add(evaluation)
    session.flush()
    return evaluation


def evaluations_of(session: Session, encoder: Encoder) -> list[Evaluation]:
    """All results of an encoder, the latest first."""
    wanted = select(Evaluation).where(Evaluation.encoder_id == encoder.id)
    return list(session.scalars(wanted.order_by(Evaluation.created_at.desc(), Evaluation.id)))


def _accepted(session: Session, cohort_id: str) -> Cohort:
    cohort = session.get(Cohort, cohort_id, with_for_update=True)
    if cohort is None or cohort.state is not CohortState.ACCEPTED:
        state = "not known" if cohort is None else cohort.state
        raise StateError(
            f"the cohort {cohort_id[:16]} is {state}, and encoders learn from accepted ones",
            "train again without it",
        )
    return cohort
