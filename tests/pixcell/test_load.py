"""Reading model folders: what fits loads unchanged, what does not is named."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from safetensors.torch import load_file, save_file

from pixcell_share.errors import WeightsError, WeightsMismatchError, WeightsMissingError
from pixcell_share.pixcell import PixCellTransformer2DModel
from pixcell_share.pixcell.load import load_scheduler, load_transformer, load_vae

NAME = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path: Path, make_folder: Callable[..., Path]) -> Path:
    return make_folder(tmp_path / "model", caption_num_tokens=4)


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    state = load_file(folder / NAME)
    change(state)
    save_file(state, folder / NAME)


def same_state(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    same = all(torch.equal(value, second[key]) for key, value in first.items())
    return same and first.keys() == second.keys()


def test_what_save_pretrained_wrote_is_read(folder, make_transformer, make_vae):
    transformer = load_transformer(folder / "transformer")
    assert same_state(transformer, make_transformer(caption_num_tokens=4))
    assert same_state(load_vae(folder / "vae"), make_vae())
    tensors = [*transformer.parameters(), *transformer.buffers()]
    assert not any(tensor.is_meta for tensor in tensors)


def test_diffusers_reads_the_same(folder):
    theirs = PixCellTransformer2DModel.from_pretrained(folder / "transformer")
    assert same_state(load_transformer(folder / "transformer"), theirs)
    buffer = load_transformer(folder / "transformer").pos_embed.pos_embed
    torch.testing.assert_close(buffer, theirs.pos_embed.pos_embed)


def test_shards_are_read(folder, make_transformer):
    model = make_transformer(caption_num_tokens=4)
    shutil.rmtree(folder / "transformer")
    model.save_pretrained(folder / "transformer", max_shard_size="40KB")
    assert len(list((folder / "transformer").glob("*-of-*.safetensors"))) > 1
    assert same_state(load_transformer(folder / "transformer"), model)


def test_loading_draws_no_random_numbers(folder):
    before = torch.random.get_rng_state()
    load_transformer(folder / "transformer")
    load_vae(folder / "vae")
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_token_positions_may_be_missing_and_are_computed(folder, make_transformer):
    change_weights(folder / "transformer", lambda state: state.pop("y_pos_embed.y_pos_embed"))
    wanted = make_transformer(caption_num_tokens=4)
    assert same_state(load_transformer(folder / "transformer"), wanted)


@pytest.mark.parametrize(
    "key", ["caption_projection.uncond_embedding", "pos_embed.proj.weight", "proj_out.bias"]
)
def test_no_other_key_may_be_missing(folder, key):
    change_weights(folder / "transformer", lambda state: state.pop(key))
    with pytest.raises(WeightsMismatchError, match=f"lack keys: {key}"):
        load_transformer(folder / "transformer")


def test_an_unknown_key_is_refused(folder):
    extra = {"controlnet_blocks.0.weight": torch.zeros(1)}
    change_weights(folder / "transformer", lambda state: state.update(extra))
    with pytest.raises(WeightsMismatchError, match="unknown keys: controlnet_blocks"):
        load_transformer(folder / "transformer")


def test_a_misshapen_key_is_refused(folder):
    change_weights(
        folder / "transformer", lambda state: state.update({"proj_out.bias": torch.zeros(3)})
    )
    with pytest.raises(WeightsMismatchError, match=r"proj_out.bias \(3,\) instead of \(128,\)"):
        load_transformer(folder / "transformer")


def test_the_token_count_says_which_model_was_meant(folder):
    change_config(folder / "transformer", caption_num_tokens=1)
    with pytest.raises(WeightsMismatchError) as caught:
        load_transformer(folder / "transformer")
    assert "meant for a model with 4 embeddings of 24 channels an image" in caught.value.cause
    assert "says a model with 1 embedding of 24" in caught.value.cause


def test_the_released_models_are_named(make_folder, tmp_path):
    folder = make_folder(tmp_path, caption_channels=1536, caption_num_tokens=16)
    change_config(folder / "transformer", caption_num_tokens=1)
    with pytest.raises(WeightsMismatchError, match=r"\(PixCell-1024\);.*\(PixCell-256\)"):
        load_transformer(folder / "transformer")


def test_the_latent_channels_say_which_model_was_meant(folder):
    change_config(folder / "transformer", in_channels=4)
    with pytest.raises(WeightsMismatchError, match=r"and 16 latent channels;.* and 4 latent"):
        load_transformer(folder / "transformer")


@pytest.mark.parametrize("change", [{"norm_type": "layer_norm"}, {"caption_num_tokens": 3}])
def test_an_impossible_config_is_refused(folder, change):
    change_config(folder / "transformer", **change)
    with pytest.raises(WeightsMismatchError, match=r"config\.json describes no PixCell"):
        load_transformer(folder / "transformer")


def test_another_class_is_refused(folder):
    change_config(folder / "transformer", _class_name="PixArtTransformer2DModel")
    with pytest.raises(WeightsMismatchError, match="holds a PixArtTransformer2DModel"):
        load_transformer(folder / "transformer")
    change_config(folder / "vae", _class_name="VQModel")
    with pytest.raises(WeightsMismatchError, match="holds a VQModel"):
        load_vae(folder / "vae")


def test_legacy_config_keys_are_ignored_with_a_warning(folder, caplog, make_transformer):
    legacy = {
        "double_self_attention": False,
        "num_vector_embeds": None,
        "only_cross_attention": False,
        "use_linear_projection": False,
    }
    change_config(folder / "transformer", **legacy)
    with caplog.at_level(logging.WARNING):
        model = load_transformer(folder / "transformer")
    assert f"legacy config keys ignored: {', '.join(legacy)}" in caplog.text
    assert same_state(model, make_transformer(caption_num_tokens=4))
    assert not legacy.keys() & model.config.keys()


@pytest.mark.parametrize("part", ["transformer", "vae"])
@pytest.mark.parametrize("kept", [0, 5, 1000, -1])
def test_a_truncated_file_is_an_error_with_a_remedy(folder, part, kept):
    path = folder / part / NAME
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(WeightsError, match="damaged") as caught:
        load_transformer(path.parent) if part == "transformer" else load_vae(path.parent)
    assert "again" in caught.value.remedy


@pytest.mark.parametrize("text", ["", "{", "[1]", "\udcff"])
def test_a_damaged_config_is_an_error_with_a_remedy(folder, text):
    path = folder / "transformer" / "config.json"
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(WeightsError, match="JSON") as caught:
        load_transformer(path.parent)
    assert "again" in caught.value.remedy


@pytest.mark.parametrize("name", ["config.json", NAME])
def test_a_missing_file_is_named(folder, name):
    (folder / "transformer" / name).unlink()
    with pytest.raises(WeightsMissingError, match=name.replace(".", r"\.")):
        load_transformer(folder / "transformer")


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_scheduler_follows_its_config(tmp_path, kind):
    DDPMScheduler(prediction_type=kind, beta_end=0.03).save_pretrained(tmp_path)
    scheduler = load_scheduler(tmp_path)
    assert isinstance(scheduler, DPMSolverMultistepScheduler)
    config = scheduler.config
    assert (config.prediction_type, config.beta_end) == (kind, 0.03)
    assert (config.algorithm_type, config.solver_order) == ("dpmsolver++", 2)
    scheduler.set_timesteps(20)
    assert scheduler.timesteps[0] == 999


def test_the_scheduler_does_not_cut_the_learned_variance_a_second_time(tmp_path):
    DPMSolverMultistepScheduler(variance_type="learned_range").save_pretrained(tmp_path)
    assert load_scheduler(tmp_path).config.variance_type is None


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"prediction_type": "flow_prediction", "use_flow_sigmas": True}, "flow_prediction"),
        ({"algorithm_type": "sde-dpmsolver++"}, "fresh noise"),
    ],
)
def test_schedulers_that_do_not_fit_are_refused(tmp_path, config, named):
    DPMSolverMultistepScheduler(**config).save_pretrained(tmp_path)
    with pytest.raises(WeightsMismatchError, match=named):
        load_scheduler(tmp_path)


def test_a_flow_matching_scheduler_is_refused(tmp_path):
    FlowMatchEulerDiscreteScheduler().save_pretrained(tmp_path)
    with pytest.raises(WeightsMismatchError, match="is a FlowMatchEulerDiscreteScheduler"):
        load_scheduler(tmp_path)


def test_a_solver_config_is_taken_as_it_is(tmp_path):
    DPMSolverMultistepScheduler(solver_order=3, timestep_spacing="leading").save_pretrained(
        tmp_path
    )
    config = load_scheduler(tmp_path).config
    assert (config.solver_order, config.timestep_spacing) == (3, "leading")


def test_an_unknown_noise_schedule_is_refused(tmp_path):
    config = '{"beta_schedule": "sideways", "prediction_type": "epsilon"}'
    (tmp_path / "scheduler_config.json").write_text(config)
    with pytest.raises(WeightsMismatchError, match="sideways"):
        load_scheduler(tmp_path)


def test_a_missing_scheduler_is_never_guessed(tmp_path):
    with pytest.raises(WeightsMissingError, match="scheduler_config"):
        load_scheduler(tmp_path)


def test_the_vae_keeps_its_scale(folder):
    vae = load_vae(folder / "vae")
    assert isinstance(vae, AutoencoderKL)
    assert (vae.config.scaling_factor, vae.config.shift_factor) == (1.5305, 0.0609)
