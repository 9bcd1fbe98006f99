"""What a private training promises its patients, in the words that a report of it needs.

After NIST SP 800-226 ("Guidelines for Evaluating Differential Privacy Guarantees"): budget, unit,
neighbours, mechanism, accountant, and what the guarantee does not cover.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from pixcell_share.privacy.accounting import ACCOUNTANT
from pixcell_share.training.private.accountant import CHECK, accountant_version, epsilon_of
from pixcell_share.training.private.settings import PrivacySettings
from pixcell_share.training.private.stream import GENERATOR

UNIT = "patient"
ADJACENCY = "add or remove one patient with all tiles"
NOT_COVERED = (
    "the data that the base model, the VAE and the encoder were trained on",
    "the number of patients, the settings, how long a training took, and whether it failed",
    "any choice of settings made in sight of results",
    "conditions that are later given to the model: embeddings of real tiles are accounted apart",
    "logs and losses, which are kept at the site",
)
"""Said in every record, since an epsilon alone is read as more than it is."""


@dataclass(frozen=True, kw_only=True)
class PrivateRecord:
    """One training, or the rounds of it so far."""

    epsilon: float | None
    """What the steps so far have cost; None for infinity, without noise and clipping."""
    epsilon_check: float | None
    """The same by the other accountant, an upper bound."""
    epsilon_granted: float | None
    """What all steps may cost: the ledger was charged this before the first."""
    delta: float
    clip: float | None
    """Largest norm of a patient's contribution to a step; None: not clipped."""
    noise_multiplier: float
    """Standard deviation of the noise in units of the clip."""
    sampling_rate: float
    """q: probability that a patient takes part in a step."""
    patients_per_step: int
    """Expected number of patients in a step: what the noised sum is divided by."""
    tiles_per_patient: int
    """Most tiles of a patient in a step."""
    steps: int
    """Done, over all rounds."""
    steps_granted: int
    """Of the whole training."""
    unit: str = UNIT
    adjacency: str = ADJACENCY
    mechanism: str = "DP-SGD: Gaussian mechanism on a Poisson sample of patients, in each step"
    accountant: str = ACCOUNTANT
    check: str = CHECK
    accountant_version: str
    noise_source: str = GENERATOR
    release: str
    """The ledger's id of the training."""
    base_sha256: str
    """Digest of the generator that was adapted."""
    not_covered: tuple[str, ...] = NOT_COVERED

    @property
    def private(self) -> bool:
        """Whether there is a guarantee."""
        return self.epsilon is not None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"not_covered": list(self.not_covered)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> PrivateRecord:
        """From what `to_json` gave, or somebody else sent.

        Raises:
            ValueError: an entry is unknown, missing, of another type or not finite.
        """
        known = {field.name: str(field.type) for field in fields(cls)}
        if not isinstance(values, dict) or set(values) != set(known):
            raise ValueError("the entries are not those of a record")
        for name, kind in known.items():
            if not _fits(values[name], kind):
                raise ValueError(f"{name} is not of the type {kind}")
        return cls(**{**values, "not_covered": tuple(values["not_covered"])})

    def sentence(self) -> str:
        """For people."""
        if self.epsilon is None:
            return f"no guarantee: {self.steps:,} steps without noise and clipping"
        return (
            f"epsilon {self.epsilon:.3g} at delta {self.delta:g} for each patient after "
            f"{self.steps:,} steps (noise {self.noise_multiplier:.3g}, clip {self.clip:g}, "
            f"sampling rate {self.sampling_rate:.3g})"
        )


def make_record(
    privacy: PrivacySettings,
    *,
    noise_multiplier: float,
    rate: float,
    steps: int,
    release: str,
    base_sha256: str,
) -> PrivateRecord:
    """The record of a training after ``steps`` steps.

    Raises:
        AuditError: opacus' accountants contradict each other or the exact formula.
    """
    history = [(noise_multiplier, rate, steps)] if steps else []
    private = privacy.private
    return PrivateRecord(
        epsilon=epsilon_of(history, privacy.delta) if private else None,
        epsilon_check=epsilon_of(history, privacy.delta, CHECK) if private else None,
        epsilon_granted=privacy.epsilon if private else None,
        delta=privacy.delta,
        clip=privacy.clip if private else None,
        noise_multiplier=noise_multiplier,
        sampling_rate=rate,
        patients_per_step=privacy.patients_per_step,
        tiles_per_patient=privacy.tiles_per_patient,
        steps=steps,
        steps_granted=privacy.steps,
        accountant_version=accountant_version(),
        release=release,
        base_sha256=base_sha256,
    )


def _fits(value: Any, kind: str) -> bool:
    if value is None:
        return kind.endswith("None")
    if kind.startswith("tuple"):
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if kind.startswith("float"):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and math.isfinite(value)
    return type(value) is {"int": int, "str": str}[kind]
