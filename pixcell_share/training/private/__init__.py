"""Differentially private fine-tuning of a generator by LoRA, with the patient as the unit.

`charge` the site's ledger, `train_private_lora`, `sign_adapter`. A federation's round is
`answer_adapter_task` at a site, and `check_update` and `check_envelope` at the hub.
"""

from pixcell_share.training.private.accountant import epsilon_of, noise_multiplier_for
from pixcell_share.training.private.answer import (
    AdapterAnswer,
    AdapterSite,
    answer_adapter_task,
)
from pixcell_share.training.private.grant import Grant, charge, identity
from pixcell_share.training.private.patients import Patients
from pixcell_share.training.private.record import PrivateRecord
from pixcell_share.training.private.settings import (
    LoopSettings,
    PrivacySettings,
    TrainingSettings,
)
from pixcell_share.training.private.signed import SignedAdapter, check_envelope, sign_adapter
from pixcell_share.training.private.start import seeded_adapter
from pixcell_share.training.private.task import AdapterTask
from pixcell_share.training.private.train import PrivateResult, Work, train_private_lora
from pixcell_share.training.private.update import (
    Adapter,
    UpdateFault,
    adapter_bytes,
    adapter_digest,
    check_update,
    largest_change,
    weighted_mean,
)

__all__ = [
    "Adapter",
    "AdapterAnswer",
    "AdapterSite",
    "AdapterTask",
    "Grant",
    "LoopSettings",
    "Patients",
    "PrivacySettings",
    "PrivateRecord",
    "PrivateResult",
    "SignedAdapter",
    "TrainingSettings",
    "UpdateFault",
    "Work",
    "adapter_bytes",
    "adapter_digest",
    "answer_adapter_task",
    "charge",
    "check_envelope",
    "check_update",
    "epsilon_of",
    "identity",
    "largest_change",
    "noise_multiplier_for",
    "seeded_adapter",
    "sign_adapter",
    "train_private_lora",
    "weighted_mean",
]
