"""The presets hold the numbers of their sources, and impossible settings are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pixcell_share.errors import SettingsError
from pixcell_share.pixcell.transformer import PixCellTransformer2DModel
from pixcell_share.training.objective import ObjectiveSettings
from pixcell_share.training.stages import PRESETS, STAGES, preset


@pytest.mark.parametrize(
    ("stage", "batch", "steps", "interpolation", "tokens", "sample_size"),
    [
        (256, 4096, 120_000, 0.5, 1, 32),
        (512, 1536, 60_000, 1.0, 4, 64),
        (1024, 384, 80_000, 2.0, 16, 128),
    ],
)
def test_the_papers_table_3(stage, batch, steps, interpolation, tokens, sample_size) -> None:
    settings = preset("paper", stage)
    assert (settings.global_batch, settings.steps) == (batch, steps)
    assert settings.interpolation == interpolation
    assert (settings.tokens, settings.sample_size) == (tokens, sample_size)
    assert (settings.optimizer, settings.rate, settings.weight_decay) == ("adamw", 2e-5, 0.03)
    assert (settings.schedule, settings.warmup, settings.condition_dropout) == ("constant", 0, 0.1)
    assert settings.objective == ObjectiveSettings("epsilon", learned_variance=True, snr_cap=None)
    assert not settings.turn
    assert settings.condition_noise == 0


@pytest.mark.parametrize(("stage", "per_gpu"), [(256, 128), (512, 64), (1024, 12)])
def test_the_published_codes_settings(stage: int, per_gpu: int) -> None:
    settings = preset("came", stage)
    assert settings.micro_batch == per_gpu
    assert (settings.optimizer, settings.rate) == ("came", 2e-5)
    assert settings.betas == (0.9, 0.999, 0.9999)
    assert (settings.weight_decay, settings.clip, settings.ema) == (0.0, 0.01, 0.9999)
    assert (settings.schedule, settings.warmup_steps) == ("constant", 1000)


@pytest.mark.parametrize(("stage", "batch"), [(256, 16), (512, 8), (1024, 4)])
def test_nanos_settings(stage: int, batch: int) -> None:
    settings = preset("nano", stage)
    assert (settings.heads * settings.head_dim, settings.layers) == (192, 6)
    assert settings.config(192, 16)["out_channels"] == 16
    assert settings.objective.prediction == "v_prediction"
    assert settings.objective.snr_cap == 5
    assert (settings.matrix_rate, settings.rate, settings.ema) == (2e-3, 1e-3, 0.998)
    assert (settings.global_batch, settings.schedule) == (batch, "cosine")
    assert settings.warmup_steps == round(0.02 * settings.steps)
    assert replace(settings, steps=500).warmup_steps == 10


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", ["paper", "came"])
def test_the_full_size_is_the_released_one(name: str, stage: int) -> None:
    config = preset(name, stage).config(1536, 16)
    with torch.device("meta"):
        model = PixCellTransformer2DModel(**config)
    assert sum(weight.numel() for weight in model.parameters()) == 608_072_960
    assert config["caption_num_tokens"] == (stage // 256) ** 2
    assert config["interpolation_scale"] == stage / 512


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_three_stages_that_fit_together(name: str) -> None:
    for stage in STAGES:
        settings = preset(name, stage)
        assert settings.global_batch % settings.micro_batch == 0
        assert settings.interpolation == stage / 512


@pytest.mark.parametrize(("name", "stage"), [("big", 256), ("paper", 300), ("nano", 2048)])
def test_unknown_presets_and_stages_are_refused(name: str, stage: int) -> None:
    with pytest.raises(SettingsError, match=r"big|300|2048"):
        preset(name, stage)


@pytest.mark.parametrize(
    "wrong",
    [
        {"stage": 300},
        {"steps": 0},
        {"global_batch": 0},
        {"rate": 0.0},
        {"rate": float("nan")},
        {"warmup": -1},
        {"condition_dropout": 1.5},
        {"ema": 1.0},
        {"optimizer": "sgd"},
        {"schedule": "linear"},
        {"betas": (0.9,)},
        {"betas": (0.9, 1.0)},
        {"optimizer": "came"},
        {"optimizer": "muon"},
        {"matrix_rate": 1e-3},
        {"heads": 1, "head_dim": 10},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(wrong) -> None:
    with pytest.raises(SettingsError) as caught:
        replace(preset("paper", 256), **wrong)
    assert caught.value.remedy
