"""FLOPs against torch's own counter, the reference's figures, and NVIDIA's peaks."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pixcell_share.errors import SettingsError
from pixcell_share.pixcell.lora import add_lora
from pixcell_share.pixcell.transformer import PixCellTransformer2DModel
from pixcell_share.training.attention import use_fast_attention
from pixcell_share.training.flops import (
    forward_flops,
    images_per_second,
    sampling_flops,
    training_flops,
    vae_decode_flops,
)
from pixcell_share.training.peaks import PEAKS, mfu, peak_flops
from pixcell_share.training.stages import STAGES, preset
from pixcell_share.training.start import build_model


def count(model, config, images: int = 1) -> tuple[int, int]:
    """Torch's count of a forward pass, and of both passes together."""
    side, device = config["sample_size"], model.device
    latents = torch.ones(images, config["in_channels"], side, side, device=device)
    shape = (images, config["caption_num_tokens"], config["caption_channels"])
    condition, times = torch.ones(shape, device=device), torch.zeros(images, device=device)
    # Flash attention's backward pass computes the scores again: not what a model needs.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as forward:
        output = model(latents, condition, times).sample
    with FlopCounterMode(display=False) as backward:
        output.sum().backward()
    total = forward.get_total_flops()
    return total, total + backward.get_total_flops()


@pytest.mark.parametrize("stage", STAGES)
def test_a_small_model_costs_what_torch_counts(stage: int) -> None:
    settings = replace(preset("tiny", stage), layers=3)
    config = settings.config(24, 16)
    with torch.device("cpu" if stage == 256 else "meta"):
        model = PixCellTransformer2DModel(**config)
    images = 2
    forward, both = count(model, config, images)
    assert forward == images * forward_flops(config)
    assert both == images * training_flops(config)


@pytest.mark.parametrize("stage", STAGES)
def test_the_full_size_costs_what_torch_counts(stage: int) -> None:
    config = preset("paper", stage).config(1536, 16)
    with torch.device("meta"):
        model = PixCellTransformer2DModel(**config)
    forward, both = count(model, config)
    assert forward == forward_flops(config)
    assert both == training_flops(config)


def test_the_references_figures() -> None:
    small, large = (preset("paper", stage).config(1536, 16) for stage in (256, 1024))
    assert forward_flops(small) == pytest.approx(275e9, rel=0.02)
    assert forward_flops(small, shortcut=True) == pytest.approx(237e9, rel=0.02)
    assert forward_flops(large) == pytest.approx(6437e9, rel=0.02)
    assert vae_decode_flops(32) == pytest.approx(0.62e12, rel=0.02)
    assert sampling_flops(small, 20) + vae_decode_flops(32) == pytest.approx(11.6e12, rel=0.02)
    assert sampling_flops(large, 20) + vae_decode_flops(128) == pytest.approx(267e12, rel=0.02)


def test_the_shortcut_of_one_token_costs_what_torch_counts() -> None:
    settings = preset("tiny", 256)
    config = settings.config(24, 16)
    model = build_model(settings, 24, 16)
    use_fast_attention(model, on_cpu=False)
    assert count(model, config) == (
        forward_flops(config, shortcut=True),
        training_flops(config, shortcut=True),
    )
    four = preset("tiny", 512).config(24, 16)
    assert forward_flops(four, shortcut=True) == forward_flops(four)


@pytest.mark.parametrize("stage", [256, 512])
def test_training_a_lora_costs_what_torch_counts(stage: int) -> None:
    settings = preset("tiny", stage)
    config = settings.config(24, 16)
    model = build_model(settings, 24, 16)
    add_lora(model, rank=2)
    forward, both = count(model, config)
    assert forward == forward_flops(config, lora_rank=2)
    assert both == training_flops(config, lora_rank=2)
    assert both < training_flops(config)


def test_training_a_lora_by_the_shortcut_costs_what_torch_counts() -> None:
    settings = preset("tiny", 256)
    config = settings.config(24, 16)
    model = build_model(settings, 24, 16)
    add_lora(model, rank=2)
    use_fast_attention(model, on_cpu=False)
    _, both = count(model, config)
    assert both == training_flops(config, shortcut=True, lora_rank=2)


def test_guidance_doubles_and_saving_lessens_the_sampling() -> None:
    config = preset("paper", 256).config(1536, 16)
    assert sampling_flops(config, 20) == 40 * forward_flops(config)
    assert sampling_flops(config, 20, guided=False) == 20 * forward_flops(config)
    saved = sampling_flops(config, 20, saving=True) / sampling_flops(config, 20)
    assert saved == pytest.approx(237 / 275, rel=0.01)


def test_a_config_of_something_else_is_refused() -> None:
    with pytest.raises(SettingsError, match="num_layers"):
        config = preset("tiny", 256).config(24, 16)
        del config["num_layers"]
        forward_flops(config)


@pytest.mark.parametrize(
    ("name", "dtype", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", "bf16", 312e12),
        ("NVIDIA A100 80GB PCIe", "tf32", 156e12),
        ("NVIDIA H100 80GB HBM3", torch.bfloat16, 989e12),
        ("NVIDIA H100 PCIe", "fp16", 756e12),
        ("NVIDIA H100 NVL", "bf16", 835e12),
        ("NVIDIA H200", "bf16", 989e12),
        ("NVIDIA GH200 480GB", "bf16", 989e12),
        ("NVIDIA L40S", "bf16", 362e12),
        ("NVIDIA RTX A6000", "fp32", 38.7e12),
        ("NVIDIA A10", "bf16", 125e12),
        ("NVIDIA A10G", "bf16", None),
        ("NVIDIA H200 MIG 1g.18gb", "bf16", None),
        ("Tesla V100-SXM2-32GB", "bf16", None),
        ("cpu", "fp32", None),
    ],
)
def test_peaks_by_the_name_that_cuda_gives(name, dtype, peak) -> None:
    assert peak_flops(name, dtype) == peak


def test_every_key_of_the_table_finds_itself() -> None:
    for name, peaks in PEAKS.items():
        assert peak_flops(f"NVIDIA {name}", "fp16") == peaks["fp16"]


def test_mfu_is_the_share_of_the_peak() -> None:
    assert mfu(1e9, 50, "cpu", "fp32") is None
    assert mfu(1e9, 50, "cpu", "fp32", peak=1e11) == pytest.approx(0.5)
    assert images_per_second(275e9, 312e12, 0.4) == pytest.approx(454, rel=0.01)
    assert math.isnan(images_per_second(275e9, None, 0.4))


def test_the_command_prints_what_the_functions_say(tmp_path, capsys) -> None:
    from pixcell_share import console
    from pixcell_share.training.cli import app

    def run(*words: str) -> str:
        with pytest.raises(SystemExit) as ended:
            console.run(app, ["flops", *words])
        assert ended.value.code == 0
        return capsys.readouterr().out

    config = preset("paper", 256).config(1536, 16)
    found = json.loads(run("--preset", "paper", "--stage", "256", "--json").splitlines()[-1])
    assert found["forward"] == forward_flops(config)
    assert found["training_step"] == training_flops(config)
    assert found["sampling"] == sampling_flops(config, 20)
    assert found["sampling_saving"] == sampling_flops(config, 20, saving=True)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"_class_name": "PixCellTransformer2DModel", **config}))
    table = run("--config", str(path), "--steps", "10")
    assert "275" in table
    assert "A100" in table
