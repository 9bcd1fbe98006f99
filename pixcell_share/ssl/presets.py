"""Settings that are known to go together."""

from __future__ import annotations

from collections.abc import Callable

from pixcell_share.errors import SettingsError
from pixcell_share.ssl.crops import ColourSettings, CropSettings
from pixcell_share.ssl.heads import HeadSettings
from pixcell_share.ssl.schedules import ScheduleSettings
from pixcell_share.ssl.settings import GroupSettings, LossSettings, SslSettings

_EPOCH = 1250
"""Steps that DINOv2 calls an epoch."""


def small() -> SslSettings:
    """Minutes on 2 cores, from tiles of 64 to 224 px: for trying, for tests, and for comparing.

    `tiny` at 64 px, two global and four local crops. What differs from DINOv2 is what a few
    hundred steps of a few dozen tiles need: standardised heads with few prototypes, a teacher that
    follows soon, layer scales that let the blocks take part from the first step.
    """
    return SslSettings(
        architecture="tiny",
        global_batch=32,
        micro_batch=32,
        schedule=ScheduleSettings(
            steps=600,
            warmup_steps=40,
            rate=0.006,
            frozen_steps=0,
            momentum=(0.95, 1.0),
            temperature_steps=200,
        ),
        crops=CropSettings(
            global_px=64, local_px=32, locals=4, turn=True, colour=ColourSettings(solarize=0.0)
        ),
        dino_head=HeadSettings(prototypes=512, hidden=256, bottleneck=32, standardised=True),
        groups=GroupSettings(layer_decay=1.0, patch_factor=1.0),
        drop_path=0.0,
        layer_scale=0.1,
        bf16=False,
        device="cpu",
        workers=2,
        save_every=200,
    )


def vitb14() -> SslSettings:
    """ViT-B/14 on eight or more A100s: DINOv2's defaults, with the symmetries of tissue."""
    return SslSettings(crops=CropSettings(turn=True), workers=12)


def vitl14() -> SslSettings:
    """ViT-L/14 as DINOv2's ``vitl14.yaml`` has it (with GELU, as it is published)."""
    head = HeadSettings(prototypes=131_072, bottleneck=384)
    return SslSettings(
        architecture="dinov2_vitl14",
        global_batch=2048,
        micro_batch=32,
        schedule=ScheduleSettings(
            steps=500 * _EPOCH,
            warmup_steps=80 * _EPOCH,
            rate=2e-4,
            weight_decay=(0.04, 0.2),
            momentum=(0.994, 1.0),
        ),
        crops=CropSettings(turn=True),
        dino_head=head,
        ibot_head=HeadSettings(prototypes=131_072, bottleneck=256),
        loss=LossSettings(targets="sinkhorn_knopp"),
        groups=GroupSettings(layer_decay=1.0),
        drop_path=0.4,
        sharding="fsdp2",
        workers=12,
    )


PRESETS: dict[str, Callable[[], SslSettings]] = {
    "small": small,
    "vitb14": vitb14,
    "vitl14": vitl14,
}
"""Every preset by name."""


def preset(name: str) -> SslSettings:
    """The settings of a preset.

    Raises:
        SettingsError: there is none of this name.
    """
    if name not in PRESETS:
        raise SettingsError(f"there is no preset {name!r}", f"choose one of {', '.join(PRESETS)}")
    return PRESETS[name]()
