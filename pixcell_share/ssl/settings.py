"""What an encoder is trained with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pixcell_share.errors import SettingsError
from pixcell_share.ssl.architectures import architecture
from pixcell_share.ssl.crops import CropSettings
from pixcell_share.ssl.heads import HeadSettings
from pixcell_share.ssl.masking import MaskSettings
from pixcell_share.ssl.schedules import ScheduleSettings
from pixcell_share.training.distributed import Sharding


@dataclass(frozen=True)
class LossSettings:
    """The parts of the loss."""

    dino: float = 1.0
    """Weight of the loss on class tokens."""
    ibot: float = 1.0
    """Weight of the loss on masked patches."""
    koleo: float = 0.1
    """Weight of the regulariser, for each of the two global crops."""
    targets: Literal["centring", "sinkhorn_knopp"] = "centring"
    """How the teacher's logits become targets; DINOv2's large models use Sinkhorn-Knopp."""


@dataclass(frozen=True)
class GroupSettings:
    """How the optimizer treats the parts of the student."""

    layer_decay: float = 0.9
    """Factor of the learning rate from each block to the one before it."""
    patch_factor: float = 0.2
    """Of the learning rate of the patch embedding."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of AdamW."""
    clip: float = 3.0
    """Highest gradient norm, of the backbone and of each head."""


@dataclass(frozen=True)
class SslSettings:
    """All of a training; the defaults are DINOv2's, with ViT-B/14.

    Raises:
        SettingsError: no such architecture, or sizes that do not fit it.
    """

    architecture: str = "dinov2_vitb14"
    """A name of `ARCHITECTURES`."""
    global_batch: int = 1024
    """Tiles of a step, over all ranks."""
    micro_batch: int = 64
    """Tiles that a rank computes at once, at most. KoLeo compares these with each other."""
    seed: int = 0
    """Of the student's start, the order, and everything drawn."""
    schedule: ScheduleSettings = ScheduleSettings()
    crops: CropSettings = CropSettings()
    masks: MaskSettings = MaskSettings()
    dino_head: HeadSettings = HeadSettings()
    ibot_head: HeadSettings | None = None
    """None: masked patches share the head of the class tokens."""
    loss: LossSettings = LossSettings()
    groups: GroupSettings = GroupSettings()
    drop_path: float = 0.3
    """Share of the rows for which a branch of a block is left out."""
    layer_scale: float = 1e-5
    """Start of the layer scales."""
    bf16: bool = True
    """Compute in bfloat16 (autocast); weights, averages and losses stay float32."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    sharding: Sharding = "ddp"
    """How several ranks share the model; ``fsdp2`` for what a GPU cannot hold."""
    compile: bool = False
    """Compile the blocks."""
    workers: int = 8
    """Threads of each rank that make crops."""
    save_every: int = 1000
    """Steps between checkpoints; there is always one at the end."""
    keep_checkpoints: int = 3
    """Checkpoints kept."""
    log_every: int = 10
    """Steps between log lines."""

    def __post_init__(self) -> None:
        patch = architecture(self.architecture).patch
        for name in ("global_px", "local_px"):
            side = getattr(self.crops, name)
            if side % patch:
                below = side // patch * patch
                raise SettingsError(
                    f"crops of {side} px cannot be cut into patches of {patch} px",
                    f"use {name} {below or patch} or {below + patch}",
                )
        if not 0 <= self.drop_path < 1 or min(self.global_batch, self.workers) < 1:
            raise SettingsError(
                "drop_path, the batch or the threads are out of range",
                "use drop_path in [0, 1), and 1 or more of the others",
            )
