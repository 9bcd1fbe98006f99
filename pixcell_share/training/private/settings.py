"""What a private training promises, and how it is carried out."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from pixcell_share.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class PrivacySettings:
    """DP-SGD (Abadi et al., CCS 2016) with the patient as its unit.

    All of this is public: it stands in the signed record.
    """

    epsilon: float
    """Over all steps of all rounds. ``math.inf``: no noise and no clipping, see
    ``without_guarantee``."""
    delta: float
    """Below 1 / patients: publishing one patient whole has delta 1 / patients."""
    clip: float = 0.01
    """Largest L2 norm of what one patient adds to a step: noise is in proportion to it. Best below
    what most patients reach, which AdamW, blind to the scale of a gradient, does not mind (Li et
    al., ICLR 2022; Bu et al., NeurIPS 2023). `nano` on lung tiles: half the patients between 0.016
    and 0.028 at the start. The log says how many were clipped."""
    patients_per_step: int = 16
    """Expected number of patients in a step. Each takes part with probability q, this over the
    number of patients, independently of all others (Poisson sampling)."""
    tiles_per_patient: int = 4
    """Most regions of a patient in a step, drawn anew in each."""
    steps: int = 500
    """Optimizer steps, over all rounds."""
    without_guarantee: bool = False
    """Has to be said for an epsilon of infinity, and is recorded with it."""

    def __post_init__(self) -> None:
        """Refuse what promises nothing, or what DP-SGD cannot do.

        Raises:
            SettingsError: naming the option.
        """
        for name in ("patients_per_step", "tiles_per_patient", "steps"):
            _check(getattr(self, name) >= 1, name, getattr(self, name), "use at least 1")
        _check(0 < self.clip < math.inf, "dp_clip", self.clip, "use a value such as 0.01")
        _check(0 < self.delta < 1, "dp_delta", self.delta, "use less than 1 / patients")
        _check(self.epsilon > 0, "dp_epsilon", self.epsilon, "use a value such as 1, 3 or 8")
        if self.private and self.without_guarantee:
            raise SettingsError(
                f"epsilon {self.epsilon:g} is a guarantee, and none was asked for",
                "leave --dp-no-guarantee out, or give --dp-epsilon inf",
            )
        if not self.private and not self.without_guarantee:
            raise SettingsError(
                "an epsilon of infinity protects no patient",
                "give a finite --dp-epsilon, or say --dp-no-guarantee as well",
            )

    @property
    def private(self) -> bool:
        """Whether there is a guarantee."""
        return math.isfinite(self.epsilon)

    def rate_for(self, patients: int) -> float:
        """q: the probability that a patient takes part in a step.

        Raises:
            SettingsError: there are too few patients for these settings.
        """
        if patients < self.patients_per_step:
            raise SettingsError(
                f"{self.patients_per_step} patients per step, and there are {patients} in all",
                f"use --patients-per-step {max(1, patients // 4)} or less",
            )
        if self.private and self.delta * patients >= 1:
            raise SettingsError(
                f"delta = {self.delta:g} is not below 1 / {patients}, one over the patients",
                f"use --dp-delta {0.1 / patients:.0e} or less",
            )
        return self.patients_per_step / patients

    def to_json(self) -> dict[str, Any]:
        """As a task carries it; an infinite epsilon is None."""
        return _values(self) | {"epsilon": self.epsilon if self.private else None}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> PrivacySettings:
        """From what `to_json` gave, or somebody else sent.

        Raises:
            SettingsError: an entry is unknown, missing, of another type or out of range.
        """
        known = values
        if isinstance(values, dict) and values.get("epsilon", 0.0) is None:
            known = {**values, "epsilon": math.inf}
        return from_values(cls, known)


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """The rest of a training: what is learned, not what is promised."""

    rank: int = 4
    """Inner dimension of the LoRA's matrices."""
    alpha: float = 4.0
    """The LoRA's output is scaled by ``alpha / rank``."""
    rate: float = 1e-4
    """Learning rate of AdamW, constant."""
    weight_decay: float = 0.01
    """Of the LoRA's matrices."""
    condition_dropout: float = 0.1
    """Share of tiles trained with the null embedding, drawn tile by tile."""
    turn: bool = False
    """Turn and flip the latents, and the grid of embeddings with them."""
    seed: int = 0
    """Of the LoRA's start, which is public. Noise and sampling come from the site's secret."""
    bf16: bool = False
    """Compute in bfloat16; weights, norms and sums stay float32."""

    def __post_init__(self) -> None:
        _check(self.rank >= 1, "rank", self.rank, "use 4")
        _check(0 < self.alpha < math.inf, "alpha", self.alpha, "use the rank")
        _check(0 < self.rate < math.inf, "rate", self.rate, "use a value such as 1e-4")
        _check(0 <= self.weight_decay < 1, "weight_decay", self.weight_decay, "use 0.01")
        _check(0 <= self.condition_dropout <= 1, "condition_dropout", self.condition_dropout,
               "use a share from 0 to 1")  # fmt: skip
        _check(0 <= self.seed < 2**63, "seed", self.seed, "use a number from 0")

    def to_json(self) -> dict[str, Any]:
        """As a task carries it."""
        return _values(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainingSettings:
        """From what `to_json` gave, or somebody else sent.

        Raises:
            SettingsError: an entry is unknown, missing, of another type or out of range.
        """
        return from_values(cls, values)


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """How a training is carried out on this machine; none of it changes what is learned."""

    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    micro_batch: int | None = None
    """Tiles computed at once; None: the tiles of as many whole patients as fit into 16 tiles at
    256 px, 4 at 512 px and 1 at 1024 px, at least one patient."""
    save_every: int = 100
    """Steps between checkpoints; there is always one at the end."""
    log_every: int = 10
    """Steps between log lines."""
    on_bad_data: str = "refuse"
    """``refuse`` tiles with NaN, or ``skip`` them."""
    quiet: bool = False
    """No bar and no lines for people."""


T = TypeVar("T")
_SAME_VERSION = "use the same version of this program on both sides"


def from_values(kind: type[T], values: Any) -> T:
    """A settings dataclass from plain values of its own types.

    Raises:
        SettingsError: an entry is unknown, missing, of another type or out of range.
    """
    known = {field.name: str(field.type) for field in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(values, dict) or set(values) != set(known):
        raise SettingsError(f"the entries are not those of {kind.__name__}", _SAME_VERSION)
    for name, value in values.items():
        if not _fits(value, known[name]):
            raise SettingsError(
                f"{name} = {ascii(value)[:80]} is not of the type {known[name]}", _SAME_VERSION
            )
    return kind(**values)


def _fits(value: Any, kind: str) -> bool:
    if kind == "bool" or isinstance(value, bool):
        return kind == "bool" and isinstance(value, bool)
    kinds: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,)}
    return isinstance(value, kinds[kind])


def _values(settings: Any) -> dict[str, Any]:
    return {field.name: getattr(settings, field.name) for field in fields(settings)}


def _check(holds: bool, name: str, value: object, remedy: str) -> None:
    if not holds:
        raise SettingsError(f"--{name.replace('_', '-')} is {value}", remedy)
