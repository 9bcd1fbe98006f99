"""What one stage of the training is: sizes, optimizer, schedule; and the named sets of settings.

PixCell is trained in three stages, at 256, 512 and 1024 px, each from the one before::

    paper   Table 3 of the paper (AdamW); what it leaves open is said at the field
    came    the published code's settings (CAME)
    nano    the small model in the package
    tiny    seconds on a CPU: to try the machinery, never to ship
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from pixcell_share.errors import SettingsError
from pixcell_share.training.objective import ObjectiveSettings

STAGES = (256, 512, 1024)
"""Pixels along a side of the image, in the order of training."""
TILE_PX = 256
"""Side of the tile that one embedding describes."""
LATENT_PX = 8
"""Side in pixels of what one latent describes."""
OptimizerName = Literal["adamw", "came", "muon"]
Schedule = Literal["constant", "cosine"]
_T = TypeVar("_T")
_BETAS = {"adamw": 2, "came": 3, "muon": 2}


@dataclass(frozen=True)
class StageSettings:
    """One stage. The defaults are those of PixCell, where they do not change with the stage.

    Raises:
        SettingsError: a value is out of range, or two of them do not fit together.
    """

    stage: int
    """Side of the image in pixels."""
    interpolation: float
    """Patches per unit of position: 0.5, 1 and 2, so that a tissue keeps its coordinates."""
    global_batch: int
    """Images of a step, over all GPUs."""
    micro_batch: int
    """Images that a GPU computes at once; the rest of the global batch is accumulated."""
    steps: int
    """Optimizer steps."""
    heads: int = 16
    """Attention heads."""
    head_dim: int = 72
    """Channels of a head; heads times this is the width."""
    layers: int = 28
    """Transformer blocks."""
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    """What is predicted."""
    optimizer: OptimizerName = "adamw"
    """``adamw``, ``came``, or ``muon`` (for the matrices in the blocks; AdamW for the rest)."""
    rate: float = 2e-5
    """Highest learning rate."""
    matrix_rate: float | None = None
    """Highest learning rate of Muon's matrices; with the other optimizers none."""
    weight_decay: float = 0.03
    """Decay of all weights; with ``muon`` of its matrices alone."""
    betas: tuple[float, ...] = (0.9, 0.999)
    """Decays of AdamW's two averages, or of CAME's three."""
    clip: float = 1.0
    """Largest norm of the gradient; a larger one is scaled down to it."""
    schedule: Schedule = "constant"
    """How the rate goes on after the warm-up: it stays, or falls along half a cosine."""
    floor: float = 0.0
    """Rate at the end of the cosine, as a share of the highest."""
    warmup: float = 0
    """Steps over which the rate rises from 0; below 1, a share of the steps."""
    condition_dropout: float = 0.1
    """Share of images trained with the null embedding, for guidance."""
    condition_noise: float = 0.0
    """Deviation of noise added to the embeddings, in their own units."""
    ema: float = 0.9999
    """Highest decay of the averaged weights, the ones that are shipped."""
    turn: bool = False
    """Turn and flip the latents, and the grid of embeddings with them."""
    spread_timesteps: bool = False
    """One time step in each of ``global_batch`` equal parts of 0 to 999, not independent ones."""
    recompute: bool = False
    """Compute the blocks again on the way back in place of keeping them: a third more work."""

    def __post_init__(self) -> None:
        if self.stage < TILE_PX or self.stage % TILE_PX:
            raise SettingsError(f"stage is {self.stage}", "use 256, 512 or 1024")
        for name in ("global_batch", "micro_batch", "steps", "heads", "head_dim", "layers"):
            _check(getattr(self, name) >= 1, name, getattr(self, name), "use at least 1")
        for name in ("interpolation", "rate", "clip"):
            value = getattr(self, name)
            _check(0 < value < math.inf, name, value, "use a number above 0")
        for name in ("weight_decay", "warmup", "condition_noise"):
            value = getattr(self, name)
            _check(0 <= value < math.inf, name, value, "use a number from 0")
        for name in ("floor", "condition_dropout"):
            value = getattr(self, name)
            _check(0 <= value <= 1, name, value, "use a share from 0 to 1")
        _check(0 <= self.ema < 1, "ema", self.ema, "use a decay from 0 to below 1")
        width = self.heads * self.head_dim
        _check(width % 4 == 0, "heads x head_dim", width, "make it divisible by 4")
        self._check_optimizer()

    def _check_optimizer(self) -> None:
        names = ", ".join(_BETAS)
        _check(self.optimizer in _BETAS, "optimizer", self.optimizer, f"use one of {names}")
        _check(self.schedule in ("constant", "cosine"), "schedule", self.schedule,
               "use constant or cosine")  # fmt: skip
        count = _BETAS[self.optimizer]
        fits = len(self.betas) == count and all(0 <= beta < 1 for beta in self.betas)
        _check(fits, "betas", self.betas, f"{self.optimizer} takes {count} numbers below 1")
        if self.optimizer == "muon":
            rate = self.matrix_rate
            _check(rate is not None and 0 < rate < math.inf, "matrix_rate", rate,
                   "muon needs a rate for its matrices, such as 2e-3")  # fmt: skip
        else:
            _check(self.matrix_rate is None, "matrix_rate", self.matrix_rate,
                   f"{self.optimizer} has one rate for all weights: leave it out")  # fmt: skip

    @property
    def tokens(self) -> int:
        """Embeddings of an image: 1, 4 or 16."""
        return (self.stage // TILE_PX) ** 2

    @property
    def sample_size(self) -> int:
        """Latents along a side of the image: 32, 64 or 128."""
        return self.stage // LATENT_PX

    @property
    def warmup_steps(self) -> int:
        """`warmup` in steps."""
        return round(self.warmup * self.steps if self.warmup < 1 else self.warmup)

    def config(self, embedding_dim: int, latent_channels: int) -> dict[str, Any]:
        """The model's config: arguments of `PixCellTransformer2DModel`.

        Args:
            embedding_dim: length of an embedding (1536 with UNI2-h).
            latent_channels: of the VAE (16 with SD3's).
        """
        outputs = 2 if self.objective.learned_variance else 1
        return {
            "num_attention_heads": self.heads,
            "attention_head_dim": self.head_dim,
            "in_channels": latent_channels,
            "out_channels": outputs * latent_channels,
            "num_layers": self.layers,
            "cross_attention_dim": self.heads * self.head_dim,
            "sample_size": self.sample_size,
            "patch_size": 2,
            "interpolation_scale": self.interpolation,
            "use_additional_conditions": False,
            "caption_channels": embedding_dim,
            "caption_num_tokens": self.tokens,
        }


def _check(fits: bool, name: str, value: object, remedy: str) -> None:
    if not fits:
        raise SettingsError(f"{name} is {value}", remedy)


def paper(stage: int) -> StageSettings:
    """Table 3 of the paper: AdamW, weight decay 0.03, constant 2e-5, condition dropout 0.1.

    The paper leaves open clipping (1 here) and the share of a GPU: here what 80 GB should hold
    without recomputing (32,768 latent patches at once).
    """
    return StageSettings(
        stage=stage,
        interpolation=_of(stage, 0.5, 1.0, 2.0),
        global_batch=_of(stage, 4096, 1536, 384),
        micro_batch=_of(stage, 128, 32, 8),
        steps=_of(stage, 120_000, 60_000, 80_000),
    )


def came(stage: int) -> StageSettings:
    """The published code's settings: CAME, warm-up of 1000 steps, clipping at 0.01.

    Its batches are per GPU (128, 64, 12); its number of GPUs and of steps is not known, so the
    global batch and the steps are the paper's.
    """
    return replace(
        paper(stage),
        micro_batch=_of(stage, 128, 64, 12),
        recompute=stage > TILE_PX,
        optimizer="came",
        betas=(0.9, 0.999, 0.9999),
        weight_decay=0.0,
        clip=0.01,
        warmup=1000,
    )


def nano(stage: int) -> StageSettings:
    """The small model in the package: width 192, 6 blocks, velocity, no learned variance."""
    return StageSettings(
        stage=stage,
        interpolation=_of(stage, 0.5, 1.0, 2.0),
        global_batch=_of(stage, 16, 8, 4),
        micro_batch=_of(stage, 16, 8, 4),
        steps=_of(stage, 12_000, 2_000, 1_000),
        heads=3,
        head_dim=64,
        layers=6,
        objective=ObjectiveSettings("v_prediction", learned_variance=False, snr_cap=5.0),
        optimizer="muon",
        rate=1e-3,
        matrix_rate=2e-3,
        weight_decay=0.02,
        betas=(0.9, 0.98),
        schedule="cosine",
        floor=0.02,
        warmup=0.02,
        condition_noise=0.05,
        ema=0.998,
        turn=True,
        spread_timesteps=True,
    )


def tiny(stage: int) -> StageSettings:
    """Width 32, 2 blocks, 4 steps of 4 images; otherwise as the paper."""
    return replace(
        paper(stage), global_batch=4, micro_batch=2, steps=4, heads=2, head_dim=16, layers=2,
        rate=1e-3, ema=0.9,
    )  # fmt: skip


def _of(stage: int, *values: _T) -> _T:
    return values[STAGES.index(stage)]


PRESETS: Mapping[str, Callable[[int], StageSettings]] = MappingProxyType(
    {"paper": paper, "came": came, "nano": nano, "tiny": tiny}
)
"""Settings by name; each takes a stage of `STAGES`."""


def preset(name: str, stage: int) -> StageSettings:
    """A stage's settings by the preset's name.

    Raises:
        SettingsError: no such preset, or it has no such stage.
    """
    if name not in PRESETS:
        raise SettingsError(f"unknown preset {name}", f"use one of {', '.join(PRESETS)}")
    if stage not in STAGES:
        raise SettingsError(f"stage is {stage}", f"use one of {', '.join(map(str, STAGES))}")
    return PRESETS[name](stage)
