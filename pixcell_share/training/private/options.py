"""From the options of ``pixcell-train adapt`` to a private training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pixcell_share.training.adapt import AdaptReport, AdaptSettings, adapt
from pixcell_share.training.options import RunOptions
from pixcell_share.training.private.adapt import (
    PrivateAdaptSettings,
    PrivateReport,
    adapt_privately,
)
from pixcell_share.training.private.settings import LoopSettings, PrivacySettings, TrainingSettings


@dataclass(frozen=True, kw_only=True)
class PrivateOptions:
    """The options that ask for differential privacy."""

    epsilon: float | None
    """None: without."""
    delta: float
    clip: float
    patients_per_step: int
    tiles_per_patient: int
    no_guarantee: bool
    home: Path | None

    def settings(self, asked: AdaptSettings) -> PrivateAdaptSettings | None:
        """All of a private training; None where none is asked for.

        Raises:
            SettingsError: an option is out of range.
        """
        if self.epsilon is None:
            return None
        run = RunOptions(
            stage=256,  # of a preset that is not used
            latents=asked.latents,
            out=asked.out,
            dtype=asked.dtype,
            device=asked.device,
            seed=asked.seed,
            on_bad_data=asked.on_bad_data,
        ).resolve()
        return PrivateAdaptSettings(
            model=asked.model,
            data=run.data,
            out=asked.out,
            privacy=PrivacySettings(
                epsilon=self.epsilon,
                delta=self.delta,
                clip=self.clip,
                patients_per_step=self.patients_per_step,
                tiles_per_patient=self.tiles_per_patient,
                steps=asked.steps,
                without_guarantee=self.no_guarantee,
            ),
            training=TrainingSettings(
                rank=asked.rank,
                alpha=asked.alpha,
                rate=asked.rate,
                weight_decay=asked.weight_decay,
                condition_dropout=asked.condition_dropout,
                turn=asked.turn,
                seed=asked.seed,
                bf16=run.loop.bf16,
            ),
            loop=LoopSettings(
                device=asked.device,
                micro_batch=asked.micro_batch,
                save_every=asked.save_every,
                log_every=asked.log_every,
                on_bad_data=asked.on_bad_data,
            ),
            home=self.home,
        )


def adapt_or_privately(
    asked: AdaptSettings, private: PrivateOptions, say: Callable[[str], None]
) -> AdaptReport | PrivateReport:
    """Carry out what the options ask for.

    Raises:
        PixcellError: as `adapt` and `adapt_privately`.
    """
    settings = private.settings(asked)
    return adapt(asked, say) if settings is None else adapt_privately(settings, say)
