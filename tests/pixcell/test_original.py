"""Original checkpoints: converted, against the original layout in plain torch, and back."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from pixcell_share.errors import (
    SettingsError,
    WeightsError,
    WeightsMismatchError,
    WeightsMissingError,
)
from pixcell_share.pixcell import PixCellTransformer2DModel
from pixcell_share.pixcell.load import load_scheduler, load_transformer
from pixcell_share.pixcell.original import (
    ConvertSettings,
    convert_checkpoint,
    from_original,
    infer_config,
    to_original,
)
from pixcell_share.training.cli import app
from tests.pixcell import original_pixart

WIDTH, HEADS = 144, 2
FORMS: dict[int, dict[str, Any]] = {
    256: {"sample_size": 32, "interpolation_scale": 0.5, "caption_num_tokens": 1},
    1024: {"sample_size": 128, "interpolation_scale": 2.0, "caption_num_tokens": 16},
}


@pytest.fixture(scope="module")
def make_original(make_transformer: Callable[..., PixCellTransformer2DModel]):
    """The original state dict of a small model, with every number drawn: no zero hides an error."""

    def build(size: int, **changes: Any) -> dict[str, torch.Tensor]:
        model = make_transformer(attention_head_dim=72, **{**FORMS[size], **changes})
        generator = torch.Generator().manual_seed(9)
        with torch.no_grad():
            for value in model.parameters():
                value.add_(0.05 * torch.randn(value.shape, generator=generator))
        return to_original(model)

    return build


def save(state: dict[str, torch.Tensor], path: Path, **more: Any) -> Path:
    torch.save({"state_dict": state, "epoch": 3, **more}, path)
    return path


@pytest.mark.parametrize("size", [256, 1024])
def test_the_converted_model_computes_what_the_original_layout_does(make_original, tmp_path, size):
    state = make_original(size)
    checkpoint = save(state, tmp_path / f"pixcell_{size}.ckpt")
    config = convert_checkpoint(checkpoint, tmp_path / "out").config
    assert config["num_attention_heads"] == HEADS
    assert {key: config[key] for key in FORMS[size]} == FORMS[size]
    model = load_transformer(tmp_path / "out" / "transformer")
    generator = torch.Generator().manual_seed(4)
    tokens, side = config["caption_num_tokens"], config["sample_size"]
    t = torch.tensor([999, 7] if size == 256 else [300])
    latents = torch.randn(len(t), 16, side, side, generator=generator)
    embeddings = torch.randn(len(t), tokens, 24, generator=generator)
    with torch.no_grad():
        ours = model(latents, embeddings, t).sample
        theirs = original_pixart.forward(state, latents, embeddings, t, HEADS)
    assert theirs.std() > 0.05
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [256, 1024])
def test_there_and_back(make_original, tmp_path, size):
    state = make_original(size)
    model = from_original(state, infer_config(state), tmp_path)
    back = to_original(model)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_names_and_shapes_at_full_size():
    """As reference/pixcell.md lists the original: fused matrices, nothing left over."""
    with torch.device("meta"):
        model = PixCellTransformer2DModel(**FORMS[1024], use_additional_conditions=False)
    model.pos_embed.pos_embed = torch.zeros(())
    state = to_original(model)
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    assert len(shapes) == 2 + 7 * 2 + 28 * (1 + 7 * 2) + 2
    assert shapes["blocks.27.attn.qkv.weight"] == (3456, 1152)
    assert shapes["blocks.0.cross_attn.kv_linear.bias"] == (2304,)
    assert shapes["blocks.0.mlp.fc1.weight"] == (4608, 1152)
    assert shapes["t_block.1.weight"] == (6912, 1152)
    assert shapes["t_embedder.mlp.0.weight"] == (1152, 256)
    assert shapes["y_embedder.y_proj.fc1.weight"] == (1152, 1536)
    assert shapes["y_embedder.y_embedding"] == (16, 1536)
    assert shapes["final_layer.linear.weight"] == (128, 1152)
    assert (shapes["pos_embed"], shapes["y_pos_embed"]) == ((1, 4096, 1152), (1, 16, 1536))
    config = infer_config(state)
    assert config["num_attention_heads"] == 16
    assert {key: config[key] for key in FORMS[1024]} == FORMS[1024]


def test_the_scheduler_is_that_of_the_paper(make_original, tmp_path):
    convert_checkpoint(save(make_original(256), tmp_path / "a.ckpt"), tmp_path / "out")
    config = load_scheduler(tmp_path / "out" / "scheduler").config
    assert (config.beta_schedule, config.beta_start, config.beta_end) == ("linear", 1e-4, 0.02)
    assert (config.prediction_type, config.algorithm_type) == ("epsilon", "dpmsolver++")
    assert config.num_train_timesteps == 1000


def test_prefixes_and_averages(make_original, tmp_path):
    state = make_original(256)
    average = {f"module.{key}": value * 2 for key, value in state.items()}
    parallel = {f"module.{key}": value for key, value in state.items()}
    path = save(parallel, tmp_path / "a.ckpt", state_dict_ema=average)
    convert_checkpoint(path, tmp_path / "plain")
    convert_checkpoint(path, tmp_path / "ema", ConvertSettings(ema=True))
    plain = load_transformer(tmp_path / "plain" / "transformer").state_dict()
    ema = load_transformer(tmp_path / "ema" / "transformer").state_dict()
    assert torch.equal(plain["proj_out.bias"], state["final_layer.linear.bias"])
    assert all(torch.equal(ema[key], plain[key] * 2) for key in plain)


def test_a_bare_state_dict_is_taken_and_a_missing_average_named(make_original, tmp_path):
    torch.save(make_original(256), tmp_path / "bare.pth")
    convert_checkpoint(tmp_path / "bare.pth", tmp_path / "out")
    with pytest.raises(WeightsMismatchError, match="no state_dict_ema") as caught:
        convert_checkpoint(tmp_path / "bare.pth", tmp_path / "out", ConvertSettings(ema=True))
    assert "--ema" in caught.value.remedy


@pytest.mark.parametrize("key", ["blocks.1.attn.qkv.bias", "t_block.1.weight"])
def test_a_missing_key_is_named(make_original, tmp_path, key):
    state = make_original(256)
    del state[key]
    with pytest.raises(WeightsMismatchError, match=f"missing keys: {key}"):
        convert_checkpoint(save(state, tmp_path / "a.ckpt"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unknown_key_is_named(make_original, tmp_path):
    state = make_original(256) | {"csize_embedder.mlp.0.weight": torch.zeros(1)}
    with pytest.raises(WeightsMismatchError, match="unknown keys: csize_embedder"):
        convert_checkpoint(save(state, tmp_path / "a.ckpt"), tmp_path / "out")


def test_another_model_altogether_is_refused(tmp_path):
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "a.pth")
    with pytest.raises(WeightsMismatchError, match="no PixCell checkpoint"):
        convert_checkpoint(tmp_path / "a.pth", tmp_path / "out")
    torch.save([1, 2], tmp_path / "b.pth")
    with pytest.raises(WeightsMismatchError, match="holds no state_dict"):
        convert_checkpoint(tmp_path / "b.pth", tmp_path / "out")


class Payload:
    """What an attacker would put into a checkpoint."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("pixcell-was-here"),)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_a_checkpoint_with_code_is_refused_and_nothing_runs(
    make_original, tmp_path, monkeypatch, form
):
    monkeypatch.chdir(tmp_path)
    content = {"state_dict": make_original(256), "extra": Payload()}
    if form == "pickle":
        Path("a.ckpt").write_bytes(pickle.dumps(content))
    else:
        torch.save(content, "a.ckpt", _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(WeightsError, match=r"code|damaged") as caught:
        convert_checkpoint(Path("a.ckpt"), Path("out"))
    assert "weights_only=False" in caught.value.remedy or form == "pickle"
    assert not Path("pixcell-was-here").exists()
    assert not Path("out").exists()


@pytest.mark.parametrize("kept", [0, 3, 2000, -5])
def test_a_truncated_checkpoint_says_so(make_original, tmp_path, kept):
    path = save(make_original(256), tmp_path / "a.ckpt")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(WeightsError, match="damaged") as caught:
        convert_checkpoint(path, tmp_path / "out")
    assert "again" in caught.value.remedy


def test_a_missing_checkpoint_says_so(tmp_path):
    with pytest.raises(WeightsMissingError, match=r"a\.ckpt is missing"):
        convert_checkpoint(tmp_path / "a.ckpt", tmp_path / "out")


def test_heads_that_cannot_be_told_have_to_be_given(make_transformer, tmp_path):
    model = make_transformer()  # width 32 is no multiple of 72
    path = save(to_original(model), tmp_path / "a.ckpt")
    with pytest.raises(SettingsError, match="width 32") as caught:
        convert_checkpoint(path, tmp_path / "out")
    assert "--heads" in caught.value.remedy
    convert_checkpoint(path, tmp_path / "out", ConvertSettings(heads=2))
    assert load_transformer(tmp_path / "out" / "transformer").config.num_attention_heads == 2


def test_the_size_comes_from_the_option_the_positions_or_the_tokens(make_original):
    state = make_original(1024)
    assert infer_config(state, size_px=512)["sample_size"] == 64
    assert infer_config(state)["sample_size"] == 128
    del state["pos_embed"]
    assert infer_config(state)["sample_size"] == 128
    with pytest.raises(SettingsError, match="--size 100"):
        infer_config(state, size_px=100)


def test_token_positions_of_another_resolution_are_an_error(make_original, tmp_path):
    state = make_original(1024)
    path = save(state, tmp_path / "a.ckpt")
    state["y_pos_embed"] = state["y_pos_embed"].roll(1, dims=1)
    with pytest.raises(WeightsMismatchError, match="another resolution"):
        convert_checkpoint(save(state, path), tmp_path / "out")


def test_other_patch_positions_are_only_a_warning(make_original, tmp_path, caplog):
    state = make_original(256)
    state["pos_embed"] = state["pos_embed"].flip(1)
    convert_checkpoint(save(state, tmp_path / "a.ckpt"), tmp_path / "out")
    assert "patch positions are not those of 256 px" in caplog.text


def test_the_dtype_of_the_written_weights(make_original, tmp_path):
    path = save(make_original(1024), tmp_path / "a.ckpt")
    convert_checkpoint(path, tmp_path / "out", ConvertSettings(dtype=torch.bfloat16))
    file = tmp_path / "out" / "transformer" / "diffusion_pytorch_model.safetensors"
    assert {value.dtype for value in load_file(file).values()} == {torch.bfloat16}
    assert load_transformer(file.parent).dtype == torch.bfloat16


def test_the_written_files_hold_no_path(make_original, tmp_path):
    convert_checkpoint(save(make_original(256), tmp_path / "a.ckpt"), tmp_path / "out")
    for path in (tmp_path / "out").rglob("*.json"):
        assert str(tmp_path) not in path.read_text()
        assert json.loads(path.read_text())["_class_name"]


def test_the_command(make_original, tmp_path):
    path = save(make_original(256), tmp_path / "a.ckpt")
    runner = CliRunner()
    words = ["convert", str(path), "--out", str(tmp_path / "out"), "--dtype", "bf16"]
    done = runner.invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "2 blocks of width 144, 256 px, 1 embedding(s) of 24" in done.output
    assert load_transformer(tmp_path / "out" / "transformer").dtype == torch.bfloat16
    wrong = runner.invoke(app, [*words, "--ema"])
    assert isinstance(wrong.exception, WeightsMismatchError)
