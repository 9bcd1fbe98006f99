"""The job behind ``pixcell-train adapt --dp-epsilon``: one site, one training, one LoRA."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixcell_share.files import atomic_write_bytes
from pixcell_share.pixcell.lora import save_lora
from pixcell_share.training.adapt import FILE
from pixcell_share.training.base import Base
from pixcell_share.training.private.answer import SECRET
from pixcell_share.training.private.grant import charge, identity, release_id, settle
from pixcell_share.training.private.patients import Patients
from pixcell_share.training.private.record import PrivateRecord
from pixcell_share.training.private.settings import LoopSettings, PrivacySettings, TrainingSettings
from pixcell_share.training.private.signed import sign_adapter
from pixcell_share.training.private.site_folder import SiteFolder
from pixcell_share.training.private.start import seeded_adapter
from pixcell_share.training.private.train import (
    Work,
    check_fit,
    check_folder,
    train_private_lora,
)
from pixcell_share.training.private.update import adapter_digest
from pixcell_share.training.record import record_of, write_record
from pixcell_share.training.settings import DataSettings

RECORD = "record.dsse.json"
"""The signed record, beside the LoRA."""


@dataclass(frozen=True, kw_only=True)
class PrivateAdaptSettings:
    """All of ``pixcell-train adapt --dp-epsilon``."""

    model: str
    """The generator: a folder, a repository, or ``nano``."""
    data: DataSettings
    """Stores, each naming the patient of every region."""
    out: Path
    """Folder of the run; the LoRA and its record are written there."""
    privacy: PrivacySettings
    """What is promised."""
    training: TrainingSettings = field(default_factory=TrainingSettings)
    """What is learned."""
    loop: LoopSettings = field(default_factory=LoopSettings)
    """How it is carried out."""
    home: Path | None = None
    """The site's folder, whose ledger is charged; None: where ``pixcell-site`` looks for it."""


@dataclass(frozen=True)
class PrivateReport:
    """How it ended."""

    record: PrivateRecord
    """What it promises so far."""
    stopped: bool
    """Whether a signal ended it early; the same command goes on."""
    file: Path | None
    """The LoRA, at the end."""
    total_epsilon: float
    """The largest epsilon that any of the patients has now been charged, over all releases."""

    speaks = True

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "step": self.record.steps,
            "steps": self.record.steps_granted,
            "stopped": self.stopped,
            "file": None if self.file is None else str(self.file),
            "record": self.record.to_json(),
            "total_epsilon": self.total_epsilon,
        }

    def sentence(self) -> str:
        """For people."""
        head = "stopped, the same command goes on" if self.file is None else str(self.file)
        return (
            f"{head}: {self.record.sentence()}; the ledger has charged at most epsilon "
            f"{self.total_epsilon:g} to a patient, over all releases"
        )


def adapt_privately(settings: PrivateAdaptSettings, say: Callable[[str], None]) -> PrivateReport:
    """Charge the ledger, train a LoRA, sign what it promises; or go on where it stopped.

    Raises:
        ReleaseRefusedError: a patient's total would pass the site's budget; nothing was done.
        KeyFileError: there is no site's key.
        SettingsError, WeightsError, DataError, LossError, AuditError, LedgerError, StorageError:
            as `train_private_lora` and `charge`.
    """
    site, base = SiteFolder.open(settings.home), Base.load(settings.model)
    sources = settings.data.open(say)
    patients = Patients.of(sources)
    about = identity(base.sha256, sources, settings.training, settings.privacy)
    check_fit(base, sources, settings.privacy, settings.loop)
    check_folder(settings.out, release_id(about))
    grant = charge(site.ledger, site.budget, patients, settings.privacy, about)
    start = seeded_adapter(base, settings.training)
    work = Work(settings.out, range(settings.privacy.steps), start)
    result = train_private_lora(
        base, sources, settings.training, settings.privacy, grant, work,
        secret=site.key.derive(SECRET), loop=settings.loop, say=say,
    )  # fmt: skip
    file = None
    if not result.stopped:
        envelope = sign_adapter(
            result.adapter, result.record, site.key, start=adapter_digest(start)
        )
        settle(site.ledger, grant.release, envelope)
        file = save_lora(base.transformer, settings.out / FILE, base_sha256=base.sha256)
        atomic_write_bytes(settings.out / RECORD, envelope)
        write_record(settings.out, record_of(sources, Path(settings.model)))
    total = grant.spent.largest.epsilon
    return PrivateReport(result.record, result.stopped, file, total)
