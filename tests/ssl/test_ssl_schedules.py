"""Schedules and groups are DINOv2's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pixcell_share.errors import SettingsError
from pixcell_share.ssl.architectures import architecture
from pixcell_share.ssl.distillation import build
from pixcell_share.ssl.flops import training_flops
from pixcell_share.ssl.groups import build_optimizer, set_schedule, treatment
from pixcell_share.ssl.presets import PRESETS, preset
from pixcell_share.ssl.schedules import ScheduleSettings, schedule
from pixcell_share.ssl.settings import GroupSettings, SslSettings
from tests.ssl.conftest import MakeSettings


def published(base: float, final: float, total: int, warmup: int = 0, start: float = 0) -> object:
    """DINOv2's ``CosineScheduler``."""
    steps = np.arange(total - warmup)
    falling = final + 0.5 * (base - final) * (1 + np.cos(np.pi * steps / max(1, len(steps))))
    return np.concatenate([np.linspace(start, base, warmup), falling])


@pytest.mark.parametrize("batch", [1024, 256])
def test_every_step_is_the_published_schedules(batch: int) -> None:
    settings = ScheduleSettings(steps=100, warmup_steps=10, frozen_steps=3, temperature_steps=30)
    found = [schedule(settings, batch, step) for step in range(100)]
    rates = published(0.004 * (batch / 1024) ** 0.5, 1e-6, 100, 10)
    np.testing.assert_allclose([each.rate for each in found], rates, atol=1e-12)
    assert [each.last_layer_rate for each in found[:3]] == [0, 0, 0]
    assert found[3].last_layer_rate == found[3].rate
    np.testing.assert_allclose([e.weight_decay for e in found], published(0.04, 0.4, 100))
    np.testing.assert_allclose([e.momentum for e in found], published(0.992, 1, 100))
    warm = [*published(0.07, 0.07, 30, 30, 0.04), *[0.07] * 70]  # type: ignore[misc]
    np.testing.assert_allclose([e.temperature for e in found], warm)


def test_defaults_are_those_of_dinov2() -> None:
    settings = SslSettings()
    assert (settings.schedule.steps, settings.schedule.warmup_steps) == (125_000, 12_500)
    assert (settings.dino_head.prototypes, settings.dino_head.bottleneck) == (65_536, 256)
    assert (settings.loss.dino, settings.loss.ibot, settings.loss.koleo) == (1, 1, 0.1)
    assert settings.groups == GroupSettings(0.9, 0.2, (0.9, 0.999), 3.0)
    assert (settings.drop_path, settings.layer_scale) == (0.3, 1e-5)
    assert settings.ibot_head is None and settings.loss.targets == "centring"
    assert (settings.masks.probability, settings.masks.ratio) == (0.5, (0.1, 0.5))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("backbone.pos_embed", (0.9**13, True, False)),
        ("backbone.patch_embed.proj.weight", (0.9**13 * 0.2, True, False)),
        ("backbone.patch_embed.proj.bias", (0.9**13 * 0.2, False, False)),
        ("backbone.blocks.0.attn.qkv.weight", (0.9**12, True, False)),
        ("backbone.blocks.11.norm1.weight", (0.9, False, False)),
        ("backbone.blocks.11.ls2.gamma", (0.9, False, False)),
        ("backbone.norm.weight", (1.0, False, False)),
        ("dino_head.mlp.0.weight", (1.0, True, False)),
        ("dino_head.last_layer.direction", (1.0, True, True)),
    ],
)
def test_a_weights_treatment(name: str, expected: tuple[float, bool, bool]) -> None:
    assert treatment(name, 12, GroupSettings()) == pytest.approx(expected)


def test_the_optimizer_holds_every_weight_once(settings: MakeSettings) -> None:
    student = build(settings()).student
    optimizer = build_optimizer(student, 4, GroupSettings())
    held = [weight for group in optimizer.param_groups for weight in group["params"]]
    assert {id(weight) for weight in held} == {id(weight) for weight in student.parameters()}
    assert len(held) == len(list(student.parameters()))
    set_schedule(optimizer, schedule(ScheduleSettings(), 1024, 100))  # prototypes are frozen
    rates = {group["last_layer"]: group["lr"] for group in optimizer.param_groups}
    assert rates[True] == 0 and rates[False] > 0


@pytest.mark.parametrize("name", PRESETS)
def test_presets_fit_their_architecture(name: str) -> None:
    settings = preset(name)
    assert settings.crops.global_px % architecture(settings.architecture).patch == 0


def test_crops_that_cannot_be_cut_into_patches_are_refused() -> None:
    crops = replace(SslSettings().crops, local_px=96)
    with pytest.raises(SettingsError, match="96 px") as refused:
        SslSettings(crops=crops)
    assert refused.value.remedy == "use local_px 84 or 98"


@pytest.mark.parametrize("architecture_name", ["tiny", "dinov2_vits14_reg", "dinov2_vitg14"])
def test_flops_are_those_that_torch_counts(architecture_name: str) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    from pixcell_share.ssl.flops import backbone_flops, head_flops
    from pixcell_share.ssl.heads import ProjectionHead
    from pixcell_share.ssl.vit import VisionTransformer

    shape, side = architecture(architecture_name), 112
    with torch.device("meta"):
        model, images = VisionTransformer(shape), torch.empty(1, 3, side, side)
        head = ProjectionHead(shape.width, SslSettings().dino_head)
        token = torch.empty(1, shape.width)
    for module, given, ours in (
        (model, images, backbone_flops(shape, side)),
        (head, token, head_flops(shape, SslSettings().dino_head)),
    ):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(given)
        assert counter.get_total_flops() == pytest.approx(ours, rel=1e-9)
    less = training_flops(SslSettings(architecture="dinov2_vits14", drop_path=0.4))
    assert less < training_flops(SslSettings(architecture="dinov2_vits14", drop_path=0.0))


def test_a_shorter_schedule_keeps_its_shares() -> None:
    whole = ScheduleSettings()
    shorter = whole.over(1000)
    assert (shorter.steps, shorter.warmup_steps, shorter.frozen_steps) == (1000, 100, 10)
    assert shorter.temperature_steps == 300 and shorter.rate == whole.rate
    assert shorter.over(whole.steps) == whole
    with pytest.raises(SettingsError, match="0 steps"):
        whole.over(0)
