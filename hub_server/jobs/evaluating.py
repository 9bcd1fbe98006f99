"""Evaluate an encoder, the hub's or any other, and keep the result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqlalchemy.orm import Session

from hub_server.jobs.encoder_store import encoder_folder
from hub_server.jobs.hub import Hub
from hub_server.jobs.settings import EvaluateSettings
from hub_server.registry import Encoder as EncoderRow
from hub_server.registry import Job, JobKind, jobs
from hub_server.registry.encoders import find_encoder, record_evaluation
from pixcell_share.bundles import check_name
from pixcell_share.encoders import Encoder, encoder_spec, load_encoder
from pixcell_share.errors import NotFoundError, SettingsError
from pixcell_share.evaluation import TASKS, EvaluationResult, ImageDataset, evaluate, open_dataset
from pixcell_share.pixcell.device import resolve_device
from pixcell_share.progress import View

PLAN = "evaluate.json"
RESULT = "result.json"
_EMBEDDINGS = "embeddings"


def plan_evaluation(hub: Hub, wanted: EvaluateSettings) -> Job:
    """Put an evaluation into the queue; what can be wrong is found now.

    Raises:
        SettingsError: no such task, encoder or data set, or a name that may not be shown.
        DataError: the data set is damaged.
    """
    if wanted.task not in TASKS:
        raise SettingsError(
            f"there is no task {wanted.task!r}", f"choose one of {', '.join(TASKS)}"
        )
    dataset = open_dataset(wanted.dataset, base=wanted.base, images=wanted.images)
    check_name("dataset", dataset.name)
    with hub.registry.session() as session:
        row = _hub_encoder(session, wanted.encoder)
        name = row.name if row else encoder_spec(wanted.encoder, wanted.weights).name
        check_name("encoder", name)
        job = jobs.enqueue(session, JobKind.EVALUATE, {
            "encoder": name, "dataset": dataset.name, "task": wanted.task,
        })  # fmt: skip
        job.folder = f"jobs/{job.id}"
        folder = hub.folder_of(job)
        folder.mkdir(parents=True, mode=0o700)
        (folder / PLAN).write_text(wanted.to_json(), encoding="utf-8")
        hub.log.append("job.enqueue", actor=hub.actor, subject=job.id, details=job.settings)
    return job


def run_evaluation(
    hub: Hub, job: Job, owner: str, view: View, check: Callable[[], None]
) -> EvaluationResult:
    """Evaluate, or go on, and keep the result.

    Args:
        hub: where.
        job: from `plan_evaluation`.
        owner: whose job it is.
        view: shows the progress.
        check: raises where the work is to stop.

    Raises:
        StateError: the job is not ``owner``'s any more.
        PixcellError: as of `pixcell_share.evaluation.evaluate`.
    """
    folder = hub.folder_of(job)
    wanted = EvaluateSettings.read(folder / PLAN)
    encoder = open_encoder(
        hub, wanted.encoder, folder / "encoder", weights=wanted.weights, device=wanted.device
    )
    dataset = open_dataset(wanted.dataset, base=wanted.base, images=wanted.images)
    pictures = isinstance(dataset, ImageDataset)
    total = sum(len(getattr(dataset, part)) for part in ("train", "val", "test"))
    with view.stage("embed", total if pictures else 0, "tiles") as advance:

        def tell(count: int) -> None:
            advance(count)
            check()

        cache = hub.home.jobs / _EMBEDDINGS
        result = evaluate(encoder, dataset, task=wanted.task, cache=cache, advance=tell)
    check()
    (folder / RESULT).write_text(result.to_json(), encoding="utf-8")
    _keep(hub, job, owner, encoder, result)
    return result


def open_encoder(
    hub: Hub, name: str, work: Path, *, weights: str | None = None, device: str = "auto"
) -> Encoder:
    """An encoder of the hub, a registered one, or that of a folder.

    Args:
        hub: where.
        name: name or id of the hub's encoder, of a registered one, or a folder.
        work: where to copy the hub's to, if its storage is elsewhere.
        weights: of a registered one, in place of its own repository.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        SettingsError: there is none of this name.
        WeightsError: its weights are not on this machine, or not what they should be.
    """
    with hub.registry.reading() as session:
        row = _hub_encoder(session, name)
    where = str(encoder_folder(hub.storage, row, work)) if row else name
    return load_encoder(where, weights=weights, device=resolve_device(device))


def _keep(hub: Hub, job: Job, owner: str, encoder: Encoder, result: EvaluationResult) -> None:
    figure = result.balanced_accuracy
    with hub.registry.session() as session:
        _check_owner_of_name(session, encoder)
        record_evaluation(session, encoder.name, result.to_dict(), job.id)
        jobs.finish(session, job.id, owner, {"balanced_accuracy": figure.value})
        hub.log.append("evaluation.add", actor=hub.actor, subject=encoder.name, details={
            "dataset": result.dataset, "task": result.task, "job": job.id,
            "balanced_accuracy": figure.value,
        })  # fmt: skip


def _check_owner_of_name(session: Session, encoder: Encoder) -> None:
    """Other weights under the name of an encoder of the hub would take over its results."""
    row = _hub_encoder(session, encoder.name)
    if row is not None and row.digest != encoder.identity.sha256:
        raise SettingsError(
            f"{encoder.name} is an encoder of this hub, with other weights than these",
            "give the folder's encoder another name in its config.json",
        )


def _hub_encoder(session: Session, name: str) -> EncoderRow | None:
    try:
        return find_encoder(session, name)
    except NotFoundError:
        return None
