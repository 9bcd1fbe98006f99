"""A site's part of an adapter round: charge, train, sign, keep.

Each training has a folder, named by its release::

    training.json              what it is, each round's start, and the digest of its answer
    round-0001/                checkpoints, log and run.json: private
    round-0001/answer.safetensors, answer.dsse.json   what left the site; a repeat gives the same

A round is carried out once. Asked for again with the same start it gives the same bytes, for
nothing; with another start it is refused, since that would be a second look at the patients that
nobody accounted for.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from pixcell_share.bundles import SiteKey
from pixcell_share.errors import DataError, SettingsError, WeightsMismatchError, WorkFolderError
from pixcell_share.files import atomic_write_bytes, atomic_write_text
from pixcell_share.privacy.ledger import Budget, Ledger
from pixcell_share.training.base import Base
from pixcell_share.training.latents import LatentStore, Source
from pixcell_share.training.private.grant import Grant, charge, identity, release_id, settle
from pixcell_share.training.private.patients import Patients
from pixcell_share.training.private.settings import LoopSettings
from pixcell_share.training.private.signed import sign_adapter
from pixcell_share.training.private.start import seeded_adapter
from pixcell_share.training.private.task import AdapterTask
from pixcell_share.training.private.train import Work, check_fit, train_private_lora
from pixcell_share.training.private.update import Adapter, adapter_digest, check_update

SECRET = "private training v1"
"""Purpose of the site's secret that noise and sampling come from."""
_ADAPTER, _ENVELOPE, _NOTES = "answer.safetensors", "answer.dsse.json", "training.json"


@dataclass(frozen=True)
class AdapterSite:
    """What a site brings to a round."""

    model: str
    """The generator: a folder, a repository, or ``nano``."""
    latents: tuple[Path, ...]
    """Stores of the site's tiles; each names the patient of every region."""
    folder: Path
    """Of all trainings; private."""
    ledger: Ledger
    """Of the site."""
    budget: Budget
    """What a patient may be charged in all."""
    key: SiteKey
    """Signs the answer; noise and sampling come from it."""
    loop: LoopSettings = field(default_factory=LoopSettings)
    """How it is carried out."""


@dataclass(frozen=True)
class AdapterAnswer:
    """What leaves the site."""

    adapter: Adapter
    """The LoRA's matrices after the round, float32."""
    envelope: bytes
    """The signed record, see `check_envelope`."""


def answer_adapter_task(
    task: AdapterTask,
    start: Adapter | None,
    site: AdapterSite,
    *,
    say: Callable[[str], None] = print,
    wants_stop: Callable[[], bool] = lambda: False,
) -> AdapterAnswer | None:
    """Carry out a round, or go on with it where it stopped, or give its answer again.

    Args:
        task: what is asked for; whether the site's policy allows it was decided before.
        start: the adapter to begin with; None in the first round: drawn from the task's seed.
        site: what the site brings.
        say: is told what a person should know.
        wants_stop: asked after each step.

    Returns:
        None if it was asked to stop; the same call goes on.

    Raises:
        WeightsMismatchError: the task or its start is for another generator.
        SettingsError: the task does not fit the site's patients.
        ReleaseRefusedError: a patient's total would pass the budget; nothing was done.
        WorkFolderError: the round was asked for with another start, or the training's folder is
            gone.
        ReleaseRefusedError: also if the round came out differently before: by another key,
            version or machine.
        DataError, LossError, AuditError, LedgerError, StorageError: as `train_private_lora`.
    """
    base = Base.load(site.model)
    begin = _begin_with(task, start, base)
    sources = [Source(LatentStore.open(f, on_bad="refuse", say=say)) for f in site.latents]
    check_fit(base, sources, task.privacy, site.loop)
    patients = Patients.of(sources)
    more = {"name": task.training, "rounds": task.rounds}
    about = identity(base.sha256, sources, task.local, task.privacy, more)
    release = release_id(about)
    folder = site.folder / release[:32]
    _note(folder, about, task.round, begin, charged=_is_charged(site.ledger, release))
    grant = charge(site.ledger, site.budget, patients, task.privacy, about)
    work = Work(folder / f"round-{task.round:04d}", task.steps, begin)
    answer = _kept(work.folder) or _answer(task, base, sources, grant, work, site, say, wants_stop)
    if answer is not None:
        before = _note_answer(folder, task.round, answer.envelope)
        settle(site.ledger, release, answer.envelope, before)
    return answer


def _answer(
    task: AdapterTask,
    base: Base,
    sources: list[Source],
    grant: Grant,
    work: Work,
    site: AdapterSite,
    say: Callable[[str], None],
    wants_stop: Callable[[], bool],
) -> AdapterAnswer | None:
    result = train_private_lora(
        base, sources, task.local, task.privacy, grant, work,
        secret=site.key.derive(SECRET), loop=site.loop, say=say, wants_stop=wants_stop,
    )  # fmt: skip
    if result.stopped:
        return None
    assert work.start is not None
    envelope = sign_adapter(
        result.adapter, result.record, site.key, start=adapter_digest(work.start),
        training=task.training, round=task.round, rounds=task.rounds,
    )  # fmt: skip
    atomic_write_bytes(work.folder / _ADAPTER, save(dict(result.adapter)))
    # The envelope last: it is what says that the answer is whole.
    atomic_write_bytes(work.folder / _ENVELOPE, envelope)
    return AdapterAnswer(result.adapter, envelope)


def _kept(folder: Path) -> AdapterAnswer | None:
    """The answer that was given before."""
    if not (folder / _ENVELOPE).is_file():
        return None
    return AdapterAnswer(load_file(folder / _ADAPTER), (folder / _ENVELOPE).read_bytes())


def _begin_with(task: AdapterTask, start: Adapter | None, base: Base) -> Adapter:
    if task.base_sha256 != base.sha256:
        raise WeightsMismatchError(
            "the task is for another generator than this site's",
            "name the consortium's generator in the site's settings",
        )
    own = seeded_adapter(base, task.local)
    if start is None:
        if task.round > 1:
            raise SettingsError(f"round {task.round} comes without a start", "ask the hub again")
        return own
    fault = check_update(start, own, math.inf)
    if fault is not None:
        raise WeightsMismatchError(
            f"the start of the round is no adapter of this generator: {fault}",
            "ask the hub's operator which generator and rank the training is for",
        )
    return {name: np.ascontiguousarray(value) for name, value in start.items()}


def _is_charged(ledger: Ledger, release: str) -> bool:
    return ledger.verify().release(release) is not None


def _note(
    folder: Path, about: dict[str, Any], number: int, start: Adapter, *, charged: bool
) -> None:
    """Write down the start of a round before anything is charged, or refuse another one."""
    path = folder / _NOTES
    if charged and not path.is_file():
        raise WorkFolderError(
            "the ledger was charged for this training, and its folder is gone: which rounds were "
            "carried out is not known",
            "put the folder back from a backup, or ask for a training under another name",
        )
    empty: dict[str, Any] = {"about": about, "starts": {}, "answers": {}}
    notes = _read_notes(path) if path.is_file() else empty
    digest = adapter_digest(start)
    before = notes["starts"].setdefault(str(number), digest)
    if before != digest:
        raise WorkFolderError(
            f"round {number} of this training was asked for before with another start",
            "a round is carried out once; ask for the next one",
        )
    atomic_write_text(path, json.dumps(notes, indent=2) + "\n")


def _note_answer(folder: Path, number: int, envelope: bytes) -> str:
    """Digest of the envelope that leaves for a round, or of the one that left before."""
    notes, digest = _read_notes(folder / _NOTES), hashlib.sha256(envelope).hexdigest()
    before: str = notes["answers"].setdefault(str(number), digest)
    atomic_write_text(folder / _NOTES, json.dumps(notes, indent=2) + "\n")
    return before


def _read_notes(path: Path) -> dict[str, Any]:
    try:
        notes: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        notes["starts"].items(), notes["answers"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is damaged", "put it back from a backup") from error
    return notes
