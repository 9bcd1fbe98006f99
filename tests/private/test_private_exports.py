"""What the room offers, and the names in signed and stored things that must not change."""

from __future__ import annotations

import pixcell_share.training.private as room
from pixcell_share.training.private import UpdateFault
from pixcell_share.training.private.answer import SECRET
from pixcell_share.training.private.signed import PREDICATE


def test_exports_are_pinned() -> None:
    assert room.__all__ == [
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
    assert all(hasattr(room, name) for name in room.__all__)


def test_names_in_signed_and_stored_things_are_pinned() -> None:
    assert PREDICATE == "urn:pixcell-share:private-adapter:v1"
    assert SECRET == "private training v1"
    assert sorted(UpdateFault) == [
        "update_dtype", "update_names", "update_not_finite", "update_shape", "update_too_large",
    ]  # fmt: skip
