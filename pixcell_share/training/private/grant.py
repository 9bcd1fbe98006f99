"""Charge the site's ledger for a training before it begins.

The ledger is charged for the whole training at once: the epsilon of all its steps together, by
opacus' accountant, which is less than the sum over steps or rounds. Beside cohorts and other
trainings it counts by basic composition, as the ledger does for all releases (Dwork et al.,
EUROCRYPT 2006). A training that is stopped half way has spent all of it: what was spent stays
spent. The same training, started again, finds its own charge.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pixcell_share.errors import ReleaseRefusedError
from pixcell_share.files import canonical_json
from pixcell_share.privacy.ledger import Budget, Exposure, Ledger, Spent
from pixcell_share.training.latents import Source
from pixcell_share.training.private.accountant import noise_multiplier_for
from pixcell_share.training.private.patients import Patients
from pixcell_share.training.private.settings import PrivacySettings, TrainingSettings
from pixcell_share.training.record import rows_digest

_PURPOSE = "pixcell-share private training, version 1"


@dataclass(frozen=True)
class Grant:
    """A training that the ledger was charged for. Only `charge` makes one."""

    release: str
    """The ledger's id of it."""
    patients: Patients
    """Who were charged."""
    noise_multiplier: float
    """Of every step, in units of the clip; 0 without a guarantee."""
    rate: float
    """q: probability that a patient takes part in a step."""
    spent: Spent
    """What the patients have now spent in all."""


def identity(
    base_sha256: str,
    sources: Sequence[Source],
    training: TrainingSettings,
    privacy: PrivacySettings,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything that decides what comes out of a training, but the secret.

    Args:
        base_sha256: digest of the generator.
        sources: the stores.
        training: what is learned.
        privacy: what is promised.
        more: what else tells this training from others, such as a federation's name for it.

    Raises:
        DataError: a store cannot be read.
    """
    return {
        "base": base_sha256,
        "stores": [
            [rows_digest(source.store.folder), source.store.count("train")] for source in sources
        ],
        "training": training.to_json(),
        "privacy": privacy.to_json(),
        **(more or {}),
    }


def release_id(about: Mapping[str, Any]) -> str:
    """The ledger's id of a training: the same one is charged once."""
    return hashlib.sha256(canonical_json([_PURPOSE, about])).hexdigest()


def charge(
    ledger: Ledger,
    budget: Budget,
    patients: Patients,
    privacy: PrivacySettings,
    about: Mapping[str, Any],
) -> Grant:
    """Charge every patient of the stores for a whole training, or no one.

    Also those are charged whom the sampling will leave out: who they are is part of the secret.

    Args:
        ledger: of the site.
        budget: what a patient may be charged in all.
        patients: of the stores.
        privacy: what is promised.
        about: from `identity`.

    Raises:
        ReleaseRefusedError: a patient's total would pass the budget; nothing was charged.
        SettingsError: the settings do not fit the number of patients, or no noise is enough.
        AuditError: opacus' accountants contradict each other.
        LedgerError: the ledger or the clock cannot be trusted.
    """
    rate = privacy.rate_for(len(patients))
    noise, epsilon, delta = 0.0, None, 0.0
    if privacy.private:
        epsilon, delta = privacy.epsilon, privacy.delta
        noise = noise_multiplier_for(epsilon, delta, rate, privacy.steps)
    exposures = {
        name: Exposure(epsilon=epsilon, delta=delta, tiles=len(rows))
        for name, rows in zip(patients.names, patients.rows, strict=True)
    }
    release = release_id(about)
    spent = ledger.spend(release, exposures, budget)
    return Grant(release, patients, noise, rate, spent)


def settle(ledger: Ledger, release: str, envelope: bytes, before: str | None = None) -> None:
    """Note in the ledger what leaves, or refuse a second thing in the place of the first.

    The same call gives the same bytes on the same machine with the same versions. Elsewhere sums
    are rounded differently, or a later version computes something else; its noise is the same, so
    that the difference of the two would be patients' gradients without noise.

    Args:
        ledger: of the site.
        release: of the training.
        envelope: the signed record.
        before: digest of the envelope that left in its place; None: what the ledger knows of the
            training's only round.

    Raises:
        ReleaseRefusedError: something else left before.
        LedgerError: the ledger cannot be trusted.
    """
    digest = hashlib.sha256(envelope).hexdigest()
    if before is None:
        known = ledger.verify().release(release)
        before = known.bundles[0] if known is not None and known.bundles else digest
    if digest != before:
        raise ReleaseRefusedError(
            "this training gave another adapter before, and both together would tell of patients "
            "what neither does",
            "send the one that was signed first, or train with another seed: that is charged anew",
        )
    ledger.settle(release, digest)
