"""Encoders end to end through files on disk: the registry's classes, made small."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pixcell_share.encoders import ENCODERS, EncoderSpec, embed_grid, load_encoder
from pixcell_share.encoders.timm_source import TimmSource
from pixcell_share.errors import (
    SettingsError,
    WeightsError,
    WeightsMismatchError,
    WeightsMissingError,
)
from tests.encoders.saving import save_weights

SMALL = {"embed_dim": 48, "depth": 2, "num_heads": 3}
NAMES = ["uni2h", "virchow2", "hoptimus1"]


def small(name: str, **kwargs: object) -> tuple[EncoderSpec, nn.Module]:
    """The registry's spec with narrow blocks, and random weights for it."""
    spec = ENCODERS[name]
    assert isinstance(spec.source, TimmSource)
    source = replace(spec.source, kwargs={**spec.source.kwargs, **SMALL, **kwargs})
    torch.manual_seed(0)
    module = source.build().eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2)
    return replace(
        spec, source=source, dim=spec.dim // (1536 if spec.dim == 1536 else 1280) * 48
    ), (module)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.usefixtures("no_network")
def test_loads_and_embeds(name: str, file: str, tmp_path: Path, tiles: np.ndarray) -> None:
    spec, module = small(name)
    save_weights(module, tmp_path / file)
    encoder = load_encoder(spec, weights=str(tmp_path))
    embeddings = encoder.embed(tiles)
    with torch.no_grad():
        expected = spec.pool(module(spec.transform(tiles))).numpy()
    assert embeddings.dtype == np.float32
    assert embeddings.shape == (4, encoder.dim) == (4, spec.dim)
    np.testing.assert_allclose(embeddings, expected, rtol=1e-4, atol=1e-4)
    assert encoder.identity.source == encoder.identity.revision == "local"
    assert encoder.identity.noncommercial
    assert str(tmp_path) not in str(encoder.identity)


def test_a_named_file_is_used_rather_than_the_usual_name(tmp_path, tiles) -> None:
    spec, module = small("uni2h")
    named = save_weights(module, tmp_path / "fine_tuned.bin")
    (tmp_path / "model.safetensors").write_bytes(b"not this one")
    assert load_encoder(spec, weights=str(named)).embed(tiles).shape == (4, spec.dim)


def test_weights_of_another_depth_name_the_keys(tmp_path: Path) -> None:
    save_weights(small("uni2h", depth=3)[1], tmp_path / "model.safetensors")
    with pytest.raises(WeightsMismatchError, match=r"unexpected: blocks\.2\.\S+.* and 11 more"):
        load_encoder(small("uni2h")[0], weights=str(tmp_path))
    save_weights(small("uni2h", depth=1)[1], tmp_path / "model.safetensors")
    with pytest.raises(WeightsMismatchError, match=r"missing: blocks\.1\.\S+"):
        load_encoder(small("uni2h")[0], weights=str(tmp_path))


def test_weights_of_another_width_name_the_shapes(tmp_path: Path) -> None:
    save_weights(small("uni2h", embed_dim=96)[1], tmp_path / "model.safetensors")
    with pytest.raises(
        WeightsMismatchError, match=r"cls_token \(1, 1, 96\) in place of \(1, 1, 48\)"
    ):
        load_encoder(small("uni2h")[0], weights=str(tmp_path))


class _Payload:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("pickle_ran"),))


@pytest.mark.parametrize("protocol", ["zip", "legacy"])
def test_a_pickle_cannot_run_code(tmp_path, monkeypatch, protocol: str) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(
        {"cls_token": _Payload()},
        tmp_path / "pytorch_model.bin",
        _use_new_zipfile_serialization=protocol == "zip",
    )
    with pytest.raises(WeightsMismatchError):
        load_encoder(small("uni2h")[0], weights=str(tmp_path))
    assert not (tmp_path / "pickle_ran").exists()


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("size", [0, 1000])
def test_truncated_files_are_named(tmp_path: Path, file: str, size: int) -> None:
    path = save_weights(small("uni2h")[1], tmp_path / file)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(WeightsMismatchError, match=file):
        load_encoder(small("uni2h")[0], weights=str(tmp_path))


def test_a_training_checkpoint_is_not_a_state_dict(tmp_path: Path) -> None:
    torch.save({"model": {}, "epoch": 3}, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsMismatchError, match="flat dictionary"):
        load_encoder(small("uni2h")[0], weights=str(tmp_path))


def test_an_empty_folder_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError, match=r"model\.safetensors") as caught:
        load_encoder("uni2h", weights=str(tmp_path))
    assert "https://huggingface.co/MahmoodLab/UNI2-h" in caught.value.remedy
    assert "HF_TOKEN" in caught.value.remedy
    assert "--weights" in caught.value.remedy


def test_half_precision_on_the_cpu_is_single(tmp_path, tiles) -> None:
    spec, module = small("hoptimus1")
    save_weights(module, tmp_path / "model.safetensors")
    half = load_encoder(spec, weights=str(tmp_path), dtype=torch.float16)
    assert half.dtype == torch.float32
    assert ENCODERS["hoptimus1"].cuda_dtype == torch.float16
    single = load_encoder(spec, weights=str(tmp_path))
    np.testing.assert_array_equal(half.embed(tiles), single.embed(tiles))


def test_bfloat16_is_close_and_float32_comes_out(tmp_path, tiles) -> None:
    spec, module = small("uni2h")
    save_weights(module, tmp_path / "model.safetensors")
    low = load_encoder(spec, weights=str(tmp_path), dtype=torch.bfloat16).embed(tiles)
    full = load_encoder(spec, weights=str(tmp_path)).embed(tiles)
    assert low.dtype == np.float32
    assert not np.array_equal(low, full)
    cosine = (low * full).sum(1) / np.linalg.norm(low, axis=1) / np.linalg.norm(full, axis=1)
    assert (cosine > 0.999).all()


def test_values_that_are_not_finite_are_refused(tmp_path, tiles) -> None:
    spec, module = small("uni2h")
    with torch.no_grad():
        module.norm.weight[0] = float("inf")
    save_weights(module, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="not finite"):
        load_encoder(spec, weights=str(tmp_path)).embed(tiles)


def test_a_wrong_dimension_is_refused(tmp_path, tiles) -> None:
    spec, module = small("uni2h")
    save_weights(module, tmp_path / "model.safetensors")
    with pytest.raises(WeightsMismatchError, match=r"not \(4, 7\)"):
        load_encoder(replace(spec, dim=7), weights=str(tmp_path)).embed(tiles)


def test_no_tiles_give_no_embeddings(tmp_path) -> None:
    spec, module = small("uni2h")
    save_weights(module, tmp_path / "model.safetensors")
    encoder = load_encoder(spec, weights=str(tmp_path))
    assert encoder.embed(np.empty((0, 256, 256, 3), np.uint8)).shape == (0, 48)


def test_a_grid_is_embedded_row_by_row(tmp_path) -> None:
    spec, module = small("uni2h")
    save_weights(module, tmp_path / "model.safetensors")
    encoder = load_encoder(spec, weights=str(tmp_path))
    large = np.random.default_rng(5).integers(0, 256, (2, 448, 448, 3), dtype=np.uint8)
    grid = embed_grid(encoder, large, grid=2)
    assert grid.shape == (2, 4, 48)
    corners = [(y, x) for y in (0, 224) for x in (0, 224)]
    for token, (y, x) in enumerate(corners):
        alone = encoder.embed(np.ascontiguousarray(large[:, y : y + 224, x : x + 224]))
        np.testing.assert_allclose(grid[:, token], alone, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="3 x 3"):
        embed_grid(encoder, large, grid=3)


def test_unknown_names_and_devices_are_settings_errors(tmp_path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_encoder("uni3")
    assert "uni2h" in caught.value.remedy
    if not torch.cuda.is_available():
        with pytest.raises(SettingsError, match="CUDA"):
            load_encoder("uni2h", weights=str(tmp_path), device="cuda")
