"""`save_generator`: what it writes is read, bit for bit, by us and by diffusers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler
from safetensors.torch import load_file, save_file

import pixcell_share.nano as nano_room
from pixcell_share.errors import SettingsError, WeightsMissingError
from pixcell_share.pixcell import PixCell, PixCellTransformer2DModel, SamplerSettings
from pixcell_share.pixcell.load import load_transformer, load_vae
from pixcell_share.pixcell.lora import add_lora
from pixcell_share.pixcell.save import save_generator

FILE = "diffusion_pytorch_model.safetensors"
LARGE = {"sample_size": 32, "interpolation_scale": 0.5, "caption_num_tokens": 16}


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    equal = all(
        torch.equal(value, second[key]) and value.dtype == second[key].dtype
        for key, value in first.items()
    )
    return equal and first.keys() == second.keys()


@pytest.mark.parametrize("changes", [{}, LARGE])
def test_a_generator_makes_the_round_trip(make_transformer, make_vae, tmp_path, changes):
    model, vae = make_transformer(**changes), make_vae()
    scheduler = DPMSolverMultistepScheduler(solver_order=3)
    save_generator(tmp_path / "m", model, scheduler, vae=vae, guidance_scale=1.75)
    again = PixCell.from_pretrained(str(tmp_path / "m"))
    assert same(again.transformer, model)
    assert same(again.codec.vae, vae)
    assert again.guidance_scale == 1.75
    assert again._scheduler.config.solver_order == 3
    assert same(PixCellTransformer2DModel.from_pretrained(tmp_path / "m" / "transformer"), model)
    assert same(AutoencoderKL.from_pretrained(tmp_path / "m" / "vae"), vae)


@pytest.mark.parametrize("with_positions", [True, False])
def test_what_was_read_is_written(make_folder, tmp_path, with_positions):
    """Read as released, with or without the one key that may be missing; write; read."""
    folder = make_folder(tmp_path / "released", **LARGE)
    path = folder / "transformer" / FILE
    state = load_file(path)
    if not with_positions:
        del state["y_pos_embed.y_pos_embed"]
        save_file(state, path)
    first = load_transformer(path.parent)
    save_generator(tmp_path / "written", first, DPMSolverMultistepScheduler())
    written = tmp_path / "written" / "transformer"
    assert same(load_transformer(written), first)
    kept = load_file(written / FILE)
    assert all(torch.equal(kept[key], value) for key, value in state.items())
    assert kept.keys() - state.keys() <= {"y_pos_embed.y_pos_embed"}
    config = json.loads((written / "config.json").read_text())
    assert config == json.loads((path.parent / "config.json").read_text())


def test_diffusers_own_save_is_the_same_file(make_transformer, tmp_path):
    model = make_transformer(**LARGE)
    model.save_pretrained(tmp_path / "theirs")
    save_generator(tmp_path / "ours", model, DPMSolverMultistepScheduler())
    ours, theirs = load_file(tmp_path / "ours" / "transformer" / FILE), tmp_path / "theirs" / FILE
    assert ours.keys() == load_file(theirs).keys()
    assert all(torch.equal(ours[key], value) for key, value in load_file(theirs).items())


def test_a_folder_is_replaced_and_other_files_stay(make_transformer, make_vae, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    save_generator(tmp_path, make_transformer(), DPMSolverMultistepScheduler(), vae=make_vae())
    other = make_transformer(num_layers=1)
    save_generator(tmp_path, other, DPMSolverMultistepScheduler(), vae=make_vae())
    assert same(PixCell.from_pretrained(str(tmp_path)).transformer, other)
    assert (tmp_path / "README.md").read_text() == "mine"
    assert not list(tmp_path.rglob("*.part"))


def test_the_weights_have_the_permissions_of_any_new_file(make_transformer, tmp_path):
    save_generator(tmp_path, make_transformer(), DPMSolverMultistepScheduler())
    (tmp_path / "new").touch()
    written = (tmp_path / "transformer" / FILE).stat().st_mode
    assert written == (tmp_path / "new").stat().st_mode


def test_the_dtype_of_the_files(make_transformer, tmp_path):
    model = make_transformer(**LARGE)
    save_generator(tmp_path, model, DPMSolverMultistepScheduler(), dtype=torch.float16)
    assert model.dtype == torch.float32
    assert load_transformer(tmp_path / "transformer").dtype == torch.float16


def test_a_scheduler_of_training_is_kept_too(make_transformer, make_vae, tmp_path):
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(prediction_type="v_prediction")
    save_generator(tmp_path, make_transformer(), scheduler, vae=make_vae())
    model = PixCell.from_pretrained(str(tmp_path))
    assert model._scheduler.config.prediction_type == "v_prediction"
    tiles = model.generate(np.zeros((1, 24), np.float32), [1], SamplerSettings(steps=2))
    assert next(tiles).shape == (64, 64, 3)


def test_an_unmerged_lora_is_refused(make_transformer, tmp_path):
    model = make_transformer()
    add_lora(model)
    with pytest.raises(SettingsError, match="LoRA") as caught:
        save_generator(tmp_path / "m", model, DPMSolverMultistepScheduler())
    assert "merge_lora" in caught.value.remedy
    assert not (tmp_path / "m").exists()


def test_the_vae_may_be_named_in_the_index(make_transformer, tmp_path, monkeypatch):
    scheduler = DPMSolverMultistepScheduler()
    save_generator(tmp_path, make_transformer(), scheduler, vae_source="nano")
    nano = load_vae(Path(nano_room.__file__).parent / "weights" / "vae").float()
    assert same(PixCell.from_pretrained(str(tmp_path)).codec.vae, nano)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    save_generator(tmp_path, make_transformer(), scheduler, vae_source="someone/else")
    with pytest.raises(WeightsMissingError, match="someone/else"):
        PixCell.from_pretrained(str(tmp_path))


def test_no_path_of_this_machine_is_written(make_transformer, tmp_path):
    scheduler = DPMSolverMultistepScheduler()
    save_generator(tmp_path, make_transformer(), scheduler, vae_source=str(tmp_path))
    assert not any(str(tmp_path) in path.read_text() for path in tmp_path.rglob("*.json"))


def test_a_path_in_the_index_is_not_followed(make_transformer, tmp_path):
    save_generator(tmp_path, make_transformer(), DPMSolverMultistepScheduler())
    (tmp_path / "model_index.json").write_text('{"vae_source": "/x/y"}')
    with pytest.raises(WeightsMissingError, match="vae_source"):
        PixCell.from_pretrained(str(tmp_path))
