"""All settings of a training run, and the named sets of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from pixcell_share.nano.autoencoder import VaeSettings
from pixcell_share.nano.batches import MixSettings
from pixcell_share.nano.decoder import DecoderSettings
from pixcell_share.nano.encoder import EncoderSettings
from pixcell_share.nano.loop import Budget
from pixcell_share.nano.phantom import PhantomSettings
from pixcell_share.nano.tiles import SplitSettings


@dataclass(frozen=True)
class NanoSettings:
    """What a run of `pixcell-train nano` does."""

    split: SplitSettings = field(default_factory=SplitSettings)
    """What is held out."""
    mix: MixSettings = field(default_factory=MixSettings)
    """Shares of the sources."""
    phantom: PhantomSettings | None = field(default_factory=PhantomSettings)
    """Drawn slides to mix in; None for none."""
    vae: VaeSettings = field(default_factory=VaeSettings)
    """Stage 1."""
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    """Stage 2."""
    decoder: DecoderSettings = field(default_factory=DecoderSettings)
    """Stage 3; the generator is trained by ``pixcell-train run``."""
    seed: int = 0
    """Of weights, batches and noise."""


def cpu() -> NanoSettings:
    """One core per stage, an hour and a quarter in all."""
    return NanoSettings()


def gpu() -> NanoSettings:
    """One H100 and 16 cores, with the sizes of `cpu`: the settings of the shipped weights.

    Stages 1 and 2 run beside each other in two minutes, stage 3 beside the generator.
    """
    return NanoSettings(
        vae=VaeSettings(
            crop_px=128, batch=64, rate=1.2e-3, kl=1e-3, budget=Budget(steps=100_000, minutes=2)
        ),
        encoder=EncoderSettings(batch=128, budget=Budget(steps=100_000, minutes=2)),
        decoder=DecoderSettings(budget=Budget(steps=100_000, minutes=2.5)),
    )


def tiny() -> NanoSettings:
    """A few steps of the smallest models: to try the machinery, never to ship."""
    few = Budget(steps=3, minutes=math.inf)
    return NanoSettings(
        phantom=None,
        vae=VaeSettings(channels=(8, 8, 8, 8), crop_px=32, batch=2, budget=few),
        encoder=EncoderSettings(dim=48, depth=1, heads=3, batch=4, describe_tiles=2, budget=few),
        decoder=DecoderSettings(budget=few),
    )


PRESETS: Mapping[str, Callable[[], NanoSettings]] = {"cpu": cpu, "gpu": gpu, "tiny": tiny}
"""Settings by name, as ``--preset`` takes them."""


def with_minutes(budget: Budget, minutes: float | None) -> Budget:
    """``budget`` with another limit of wall time, where one is given."""
    return budget if minutes is None else replace(budget, minutes=minutes)
