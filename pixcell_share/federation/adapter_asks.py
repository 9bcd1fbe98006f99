"""What an adapter round asks for: some steps of a LoRA, with differential privacy by patient."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pixcell_share.errors import SettingsError
from pixcell_share.federation.asks import Ask

if TYPE_CHECKING:
    from pixcell_share.training.private import AdapterTask

LORA = "lora."
"""How the names of the arrays of an adapter begin."""
STRATEGIES = ("fedavg", "median", "trimmed")
"""FedAvg, FedMedian and FedTrimmedAvg of Flower."""
_NAMELESS = "0" * 32


@dataclass(frozen=True, kw_only=True)
class AdapterAsk(Ask):
    """A federated training; each of its steps is one exchange of adapters.

    See `pixcell_share.training.private`.
    """

    rounds: int = 2
    """Exchanges. All of them share one epsilon."""
    model: str = "nano"
    """A name that the site's ``[federation.models]`` knows."""
    base_sha256: str = ""
    """Digest of the generator's weights at the hub: the site's have to be the same."""
    strategy: str = "fedavg"
    """How the hub puts adapters together: ``fedavg``, ``median`` or ``trimmed``."""
    epsilon: float = 3.0
    """Over all rounds; 0 asks for a training without noise and clipping."""
    delta: float = 1e-3
    clip: float = 0.1
    patients_per_step: int = 8
    tiles_per_patient: int = 2
    steps: int = 4
    """Over all rounds."""
    rank: int = 4
    alpha: float = 4.0
    rate: float = 1e-3
    """Learning rate."""
    seed: int = 0
    """Of the adapter's start."""

    def __post_init__(self) -> None:
        if self.epsilon < 0:
            raise SettingsError("epsilon is below 0", "0 asks for no guarantee")
        if self.strategy not in STRATEGIES:
            raise SettingsError(
                f"there is no strategy {self.strategy!r}", f"choose one of {', '.join(STRATEGIES)}"
            )
        self.task(_NAMELESS, 1)

    @property
    def private(self) -> bool:
        """Whether a guarantee is asked for."""
        return self.epsilon > 0

    def task(self, training: str, number: int) -> AdapterTask:
        """The same for the trainer.

        Args:
            training: its name: the round's id.
            number: which exchange, from 1.

        Raises:
            SettingsError: something cannot be.
        """
        from pixcell_share.training.private import AdapterTask, PrivacySettings, TrainingSettings

        privacy = PrivacySettings(
            epsilon=self.epsilon if self.private else math.inf,
            delta=self.delta,
            clip=self.clip,
            patients_per_step=self.patients_per_step,
            tiles_per_patient=self.tiles_per_patient,
            steps=self.steps,
            without_guarantee=not self.private,
        )
        local = TrainingSettings(
            rank=self.rank, alpha=self.alpha, rate=self.rate, seed=self.seed, turn=True
        )
        return AdapterTask(
            training=training, round=number, rounds=self.rounds,
            base_sha256=self.base_sha256, privacy=privacy, local=local,
        )  # fmt: skip
