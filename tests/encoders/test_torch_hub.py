"""DINOv2 through torch.hub: a small hub folder always, DINOv2's own clone where there is one."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch

from pixcell_share.encoders import ENCODERS, LoadRequest, load_encoder
from pixcell_share.encoders.torch_hub import CLONE_VARIABLE, TorchHubSource
from pixcell_share.errors import WeightsMismatchError, WeightsMissingError
from tests.encoders.saving import save_weights

HUBCONF = """
dependencies = ["torch"]
import torch


class Tiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Conv2d(3, 384, 14, 14)

    def forward(self, x):
        return self.embed(x).mean((2, 3))


def dinov2_vits14(*, pretrained=True):
    assert not pretrained, "the program fetches and checks the weights itself"
    print("hub code may print")
    return Tiny()
"""
CLONE = os.environ.get(CLONE_VARIABLE)
NAMES = [name for name in ENCODERS if name.startswith("dinov2")]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty torch.hub folder, so that nothing of this machine is found."""
    monkeypatch.delenv(CLONE_VARIABLE, raising=False)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    return tmp_path / "hub"


def write_clone(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "hubconf.py").write_text(HUBCONF)
    return folder


def tiny() -> torch.nn.Module:
    namespace: dict[str, type[torch.nn.Module]] = {}
    exec(HUBCONF, namespace)
    torch.manual_seed(2)
    return namespace["Tiny"]()


@pytest.mark.usefixtures("hub", "no_network")
def test_a_clone_with_weights_in_it(tmp_path: Path, tiles: np.ndarray, capsys) -> None:
    clone = write_clone(tmp_path / "clone")
    module = tiny()
    save_weights(module, clone / "dinov2_vits14_pretrain.pth")
    encoder = load_encoder("dinov2_vits14", weights=str(clone))
    expected = module(encoder.spec.transform(tiles)).detach().numpy()
    np.testing.assert_allclose(encoder.embed(tiles), expected, rtol=1e-4, atol=1e-5)
    assert encoder.identity.source == "local"
    assert encoder.identity.licence == "Apache-2.0"
    assert capsys.readouterr().out == ""  # standard output belongs to --json


@pytest.mark.usefixtures("no_network")
def test_code_and_weights_from_torch_hubs_own_folder(hub: Path, tiles: np.ndarray) -> None:
    write_clone(hub / "facebookresearch_dinov2_main")
    (hub / "checkpoints").mkdir()
    save_weights(tiny(), hub / "checkpoints" / "dinov2_vits14_pretrain.pth")
    encoder = load_encoder("dinov2_vits14")
    assert encoder.embed(tiles).shape == (4, 384)
    assert encoder.identity.source == "facebookresearch/dinov2"


@pytest.mark.usefixtures("hub", "no_network")
def test_the_variable_gives_the_code_and_weights_have_their_own_name(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(CLONE_VARIABLE, str(write_clone(tmp_path / "clone")))
    (tmp_path / "trained").mkdir()
    path = save_weights(tiny(), tmp_path / "trained" / "hub_round_7.pth")
    for weights in (path, path.parent):
        assert load_encoder("dinov2_vits14", weights=str(weights)).dim == 384


@pytest.mark.usefixtures("hub")
def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    clone = write_clone(tmp_path / "clone")
    save_weights(torch.nn.Linear(3, 4), clone / "dinov2_vits14_pretrain.pth")
    with pytest.raises(WeightsMismatchError, match=r"missing: embed\.weight"):
        load_encoder("dinov2_vits14", weights=str(clone))


@pytest.mark.usefixtures("hub", "no_network")
def test_offline_nothing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsMissingError) as caught:
        load_encoder("dinov2_vits14", weights=str(write_clone(tmp_path / "clone")))
    assert "dinov2_vits14_pretrain.pth" in caught.value.cause
    assert CLONE_VARIABLE in caught.value.remedy
    with pytest.raises(WeightsMissingError):
        TorchHubSource("dinov2_vits14").build(LoadRequest())


def test_a_failed_download_is_reported_and_leaves_nothing(hub: Path, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def unreachable(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", unreachable)
    with pytest.raises(WeightsMissingError, match="no route to host"):
        load_encoder("dinov2_vits14", weights=str(write_clone(tmp_path / "clone")))
    assert not [path for path in hub.rglob("*") if path.is_file()]


@pytest.mark.usefixtures("hub")
def test_a_folder_with_neither_code_nor_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError, match="no clone"):
        load_encoder("dinov2_vits14", weights=str(tmp_path))


def test_published_addresses() -> None:
    page = "https://dl.fbaipublicfiles.com/dinov2"
    assert TorchHubSource("dinov2_vitb14").url == f"{page}/dinov2_vitb14/dinov2_vitb14_pretrain.pth"
    assert (
        TorchHubSource("dinov2_vitg14_reg").url
        == f"{page}/dinov2_vitg14/dinov2_vitg14_reg4_pretrain.pth"
    )


real_clone = pytest.mark.skipif(CLONE is None, reason=f"{CLONE_VARIABLE} names no DINOv2 clone")


@real_clone
@pytest.mark.parametrize("name", NAMES)
def test_dinov2s_own_classes_at_full_size(name: str) -> None:
    source = ENCODERS[name].source
    assert isinstance(source, TorchHubSource)
    with torch.device("meta"):
        module = source.build(LoadRequest())
    assert module.embed_dim == ENCODERS[name].dim
    assert module.num_register_tokens == (4 if name.endswith("_reg") else 0)
    if name == "dinov2_vitb14":
        state = module.state_dict()
        assert sum(p.numel() for p in module.parameters()) == 86_580_480
        assert len(state) == 175
        assert tuple(state["pos_embed"].shape) == (1, 1370, 768)


@real_clone
def test_dinov2s_own_class_end_to_end(tmp_path: Path, tiles: np.ndarray) -> None:
    source = ENCODERS["dinov2_vits14_reg"].source
    assert isinstance(source, TorchHubSource)
    module = source.build(LoadRequest()).eval()
    path = save_weights(module, tmp_path / source.weight_file)
    encoder = load_encoder("dinov2_vits14_reg", weights=str(path))
    expected = module.forward_features(encoder.spec.transform(tiles))["x_norm_clstoken"]
    np.testing.assert_allclose(encoder.embed(tiles), expected.detach().numpy(), atol=1e-4)
