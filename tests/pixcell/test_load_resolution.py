"""Weights for another resolution, and what a null in the config may mean."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pixcell_share.errors import WeightsMismatchError
from pixcell_share.pixcell import PixCellTransformer2DModel
from pixcell_share.pixcell.load import load_transformer
from pixcell_share.pixcell.purpose import check_purpose

RELEASED: dict[int, dict[str, Any]] = {
    256: {"sample_size": 32, "interpolation_scale": 0.5, "caption_num_tokens": 1},
    1024: {"sample_size": 128, "interpolation_scale": 2.0, "caption_num_tokens": 16},
}
FILE = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path: Path, make_folder: Callable[..., Path]) -> Path:
    return make_folder(tmp_path / "model", caption_num_tokens=16) / "transformer"


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def full_size(size: int, **changes: Any) -> PixCellTransformer2DModel:
    config = RELEASED[size] | {"use_additional_conditions": False} | changes
    with torch.device("meta"):
        model = PixCellTransformer2DModel(**config)
    model.fill_tables()
    return model


@pytest.mark.parametrize(("weights", "config"), [(256, 1024), (1024, 256)])
def test_the_released_models_are_not_taken_for_each_other(weights, config):
    state = full_size(weights).state_dict()
    with pytest.raises(WeightsMismatchError) as caught:
        check_purpose(full_size(config), state, Path("m"))
    assert f"meant for a model with {16 if weights == 1024 else 1} embedding" in caught.value.cause
    assert f"(PixCell-{weights}); their config.json says" in caught.value.cause


@pytest.mark.parametrize(("weights", "sample_size"), [(256, 128), (256, 64), (1024, 32)])
def test_a_wrong_sample_size_of_a_released_model_is_an_error(weights, sample_size):
    state = full_size(weights).state_dict()
    model = full_size(weights, sample_size=sample_size)
    with pytest.raises(WeightsMismatchError, match=f"images of {weights} px .*PixCell-{weights}"):
        check_purpose(model, state, Path("m"))


@pytest.mark.parametrize("size", [256, 1024])
def test_the_released_configs_fit(size, caplog):
    model = full_size(size)
    check_purpose(model, model.state_dict(), Path("m"))
    assert caplog.text == ""


@pytest.mark.parametrize("change", [{"sample_size": 16}, {"interpolation_scale": 1.0}])
def test_stored_token_positions_tell_another_resolution(folder, change):
    change_config(folder, **change)
    wanted = {"sample_size": 16, "interpolation_scale": 4}.get(next(iter(change)))
    with pytest.raises(WeightsMismatchError, match="meant for another resolution") as caught:
        load_transformer(folder)
    # 8 latents a side, patches of 2, half a patch a unit: the image spans 8 units of position.
    assert "span 8 units" in caught.value.cause
    assert f"config.json {wanted} (" in caught.value.cause


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounded_token_positions_are_no_mismatch(folder, dtype):
    state = {key: value.to(dtype) for key, value in load_file(folder / FILE).items()}
    save_file(state, folder / FILE)
    assert load_transformer(folder).dtype == dtype


def test_a_null_interpolation_scale_is_warned_of(make_folder, tmp_path, caplog):
    folder = make_folder(tmp_path, sample_size=32, interpolation_scale=None) / "transformer"
    with caplog.at_level(logging.WARNING):
        model = load_transformer(folder)
    assert model.interpolation_scale == 1  # as diffusers reads it
    assert "interpolation_scale is null, which diffusers reads as 1" in caplog.text
    assert "trained with 0.5" in caplog.text


@pytest.mark.parametrize(("sample_size", "scale"), [(128, None), (64, None), (32, 0.5), (8, 0.5)])
def test_other_scales_are_not_warned_of(make_folder, tmp_path, caplog, sample_size, scale):
    folder = make_folder(tmp_path, sample_size=sample_size, interpolation_scale=scale)
    load_transformer(folder / "transformer")
    assert caplog.text == ""


@pytest.mark.parametrize("extra", [False, True])
def test_null_additional_conditions_follow_the_weights(make_folder, tmp_path, extra):
    """The fallback of diffusers, true at 128, would ask PixCell-1024 for layers it never had."""
    changes = {"sample_size": 128, "use_additional_conditions": extra, "num_attention_heads": 3}
    folder = make_folder(tmp_path, **changes) / "transformer"
    change_config(folder, use_additional_conditions=None)
    assert load_transformer(folder).use_additional_conditions is extra


@pytest.mark.parametrize(
    "options", [{}, {"low_cpu_mem_usage": False, "device_map": None}, {"torch_dtype": torch.half}]
)
def test_diffusers_reads_a_folder_without_token_positions(folder, make_transformer, options):
    """The released 1024 file lacks them; diffusers 0.32 raised an error here by default."""
    state = load_file(folder / FILE)
    del state["y_pos_embed.y_pos_embed"]
    save_file(state, folder / FILE)
    theirs = PixCellTransformer2DModel.from_pretrained(folder, **options)
    wanted = make_transformer(caption_num_tokens=16).y_pos_embed.y_pos_embed
    found = theirs.y_pos_embed.y_pos_embed
    assert not found.is_meta
    torch.testing.assert_close(found.float(), wanted, rtol=0, atol=1e-3)
