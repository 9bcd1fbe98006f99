"""Train an encoder: plan it, run it, keep what came out.

The job's folder holds ``job.json`` (see `pixcell_share.ssl.job`; with paths, so it is in no table),
``log.jsonl`` for the curves, the checkpoints, and the export. A killed training goes on from its
last checkpoint with the bits of an unbroken one.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from hub_server.jobs.encoder_store import keep_encoder
from hub_server.jobs.hub import Hub
from hub_server.jobs.settings import TrainSettings
from hub_server.jobs.sources import accepted_cohort, cohort_source, fetch, real_source
from hub_server.jobs.terms import check_terms
from hub_server.registry import Encoder, Job, JobKind, SourceRole, jobs
from hub_server.registry.encoders import NewEncoder, Source, add_encoder
from pixcell_share.bundles import check_name
from pixcell_share.errors import SettingsError
from pixcell_share.progress import View
from pixcell_share.ssl import SourceSettings, SslJob, TrainedEncoder, preset, read_job, write_job
from pixcell_share.ssl.job import updated
from pixcell_share.ssl.settings import SslSettings
from pixcell_share.ssl.train import SilentView, train_encoder

PLAN, READY = "job.json", "ready"
_FETCHED = "cohorts"
_WAIT_S = 3600.0


def plan_training(hub: Hub, wanted: TrainSettings) -> Job:
    """Put a training into the queue.

    Raises:
        SettingsError: settings or terms that do not go together, or no tiles are named.
        NotFoundError: there is no such cohort.
        StateError: a cohort is not accepted, or the encoder's name is taken.
    """
    settings = ssl_settings(wanted)
    with hub.registry.session() as session:
        cohorts = [accepted_cohort(session, words) for words in wanted.cohorts]
        if len({cohort.id for cohort in cohorts}) < len(cohorts):
            raise SettingsError("a cohort is named twice", "name each cohort once")
        job = jobs.enqueue(session, JobKind.TRAIN, {})
        name = wanted.name or f"{settings.architecture}-{job.id[:8]}"
        check_name("encoder", name)
        _require_free(session, name)
        job.folder = f"jobs/{job.id}"
        out = hub.home.folder.absolute() / job.folder
        sources = [cohort_source(c, hub.storage, out / _FETCHED) for c in cohorts]
        sources += [real_source(real) for real in wanted.real]
        if not sources:
            raise SettingsError("there is nothing to learn from", "give --cohort or --real")
        check_terms(sources)
        job.settings = _summary(name, settings, wanted.preset, sources, [c.id for c in cohorts])
        job.progress = {"step": 0, "steps": settings.schedule.steps}
        out.mkdir(parents=True, mode=0o700)
        write_job(out / PLAN, SslJob(settings, tuple(sources), out, name))
        hub.log.append("job.enqueue", actor=hub.actor, subject=job.id, details=job.settings)
    return job


def ssl_settings(wanted: TrainSettings) -> SslSettings:
    """The preset's settings with the changes that were asked for.

    Raises:
        SettingsError: no such preset, architecture or setting, or they do not go together.
    """
    start = preset(wanted.preset)
    if wanted.steps is not None:
        start = replace(start, schedule=start.schedule.over(wanted.steps))
    changes = dict(wanted.changes)
    if wanted.arch is not None:
        changes["architecture"] = wanted.arch
    return updated(start, changes)


def run_training(hub: Hub, job: Job, owner: str, view: View) -> bool:
    """Train, or go on, and keep the encoder; whether it came to its end.

    Raises:
        StateError: the job is not ``owner``'s any more, or a cohort was withdrawn.
        PixcellError: as of `pixcell_share.ssl.train_encoder`.
    """
    folder = hub.folder_of(job)
    with hub.registry.reading() as session:
        for digest in job.settings["cohorts"]:
            fetch(accepted_cohort(session, digest), hub.storage, folder / _FETCHED)
    (folder / READY).touch()
    planned = read_job(folder / PLAN)
    trained = train_encoder(planned.settings, planned.sources, folder, view, name=planned.name)
    if trained.folder is None:
        return False
    _keep(hub, job, owner, planned.sources, trained, trained.folder)
    return True


def run_rank(folder: Path) -> None:
    """The part of a further rank, under ``torchrun`` or Slurm; rank 0 has the job.

    Raises:
        SettingsError: rank 0 did not come to the training within an hour.
    """
    until = time.monotonic() + _WAIT_S
    while not (folder / READY).exists():
        if time.monotonic() > until:
            raise SettingsError("the first rank did not begin", "look at its log")
        time.sleep(1.0)
    planned = read_job(folder / PLAN)
    train_encoder(planned.settings, planned.sources, folder, SilentView(), name=planned.name)


def _keep(
    hub: Hub,
    job: Job,
    owner: str,
    sources: tuple[SourceSettings, ...],
    trained: TrainedEncoder,
    folder: Path,
) -> None:
    """Files first, then the row, its line in the log and the end of the job in one unit."""
    key = f"encoders/{job.id}"
    digest = keep_encoder(hub.storage, folder, key)
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    new = NewEncoder(
        name=trained.name,
        arch=trained.architecture,
        folder=key,
        digest=digest,
        card=card,
        sources=[_source(source, job.settings["cohorts"]) for source in sources],
        noncommercial=trained.noncommercial,
        job_id=job.id,
    )
    progress = {"step": trained.step, "steps": trained.steps, "encoder": trained.name}
    if trained.loss is not None:
        progress["loss"] = trained.loss
    with hub.registry.session() as session:
        encoder = add_encoder(session, new)
        jobs.finish(session, job.id, owner, progress)
        hub.log.append("encoder.add", actor=hub.actor, subject=encoder.name, details={
            "id": encoder.id, "digest": digest, "job": job.id,
            "cohorts": job.settings["cohorts"], "noncommercial": encoder.noncommercial,
        })  # fmt: skip


def _source(source: SourceSettings, cohorts: list[str]) -> Source:
    role = SourceRole(source.role)
    if source.digest in cohorts:
        return Source(role, cohort_id=source.digest)
    return Source(role, dataset=source.name)


def _summary(
    name: str,
    settings: SslSettings,
    preset_name: str,
    sources: list[SourceSettings],
    cohorts: list[str],
) -> dict[str, Any]:
    """What the registry, the log and the pages show of a training: no paths."""
    return {
        "name": name,
        "architecture": settings.architecture,
        "preset": preset_name,
        "steps": settings.schedule.steps,
        "batch": settings.global_batch,
        "seed": settings.seed,
        "cohorts": cohorts,
        "sources": [f"{source.name}: {source.role}" for source in sources],
        "noncommercial": any(source.noncommercial for source in sources),
    }


def _require_free(session: Session, name: str) -> None:
    if session.query(Encoder).filter(Encoder.name == name).first() is not None:
        raise SettingsError(f"there is an encoder {name!r}", "choose another name")
