"""The registry's architectures at their full size, on the meta device: no weight is needed."""

from __future__ import annotations

import pytest
import torch

from pixcell_share.encoders import ENCODERS, EncoderSpec
from pixcell_share.encoders.timm_source import TimmSource

# They come with the package: no page to ask at. Their dimensions are tested beside them.
PACKAGED = {"nano", "texture"}

# name: parameters, keys, output shape for two tiles, and shapes that tell the model from others
FACTS = {
    "uni2h": (
        681_394_176,
        343,
        (2, 1536),
        {
            "reg_token": (1, 8, 1536),
            "pos_embed": (1, 256, 1536),
            "blocks.23.mlp.fc1.weight": (8192, 1536),
            "blocks.23.mlp.fc2.weight": (1536, 4096),
            "blocks.0.ls1.gamma": (1536,),
        },
    ),
    "virchow2": (
        631_239_424,
        455,
        (2, 261, 1280),
        {
            "reg_token": (1, 4, 1280),
            "pos_embed": (1, 261, 1280),
            "blocks.31.mlp.fc1.weight": (6832, 1280),
            "blocks.31.mlp.fc2.weight": (1280, 3416),
        },
    ),
    "hoptimus1": (
        1_134_774_272,
        567,
        (2, 1536),
        {
            "reg_token": (1, 4, 1536),
            "pos_embed": (1, 256, 1536),
            "blocks.39.attn.qkv.weight": (4608, 1536),
        },
    ),
}


@pytest.mark.parametrize("name", FACTS)
def test_full_size_architecture(name: str) -> None:
    parameters, keys, shape, shapes = FACTS[name]
    spec = ENCODERS[name]
    assert isinstance(spec.source, TimmSource)
    with torch.device("meta"):
        module = spec.source.build().eval()
        output = module(torch.zeros(2, 3, 224, 224))
    state = module.state_dict()
    assert sum(p.numel() for p in module.parameters()) == parameters
    assert len(state) == keys
    assert {key: tuple(state[key].shape) for key in shapes} == shapes
    assert tuple(output.shape) == shape
    assert tuple(spec.pool(output).shape) == (2, spec.dim)


def test_virchow2_leaves_its_registers_out() -> None:
    tokens = torch.zeros(1, 261, 4)
    tokens[:, 0], tokens[:, 1:5], tokens[:, 5:] = 1.0, 100.0, 3.0
    assert ENCODERS["virchow2"].pool(tokens).tolist() == [[1.0] * 4 + [3.0] * 4]


def test_names_and_dimensions() -> None:
    dims = {name: ENCODERS[name].dim for name in ENCODERS if name not in PACKAGED}
    assert dims == {
        "uni2h": 1536,
        "virchow2": 2560,
        "hoptimus1": 1536,
        "keep": 768,
        "dinov2_vits14": 384,
        "dinov2_vits14_reg": 384,
        "dinov2_vitb14": 768,
        "dinov2_vitb14_reg": 768,
        "dinov2_vitl14": 1024,
        "dinov2_vitl14_reg": 1024,
        "dinov2_vitg14": 1536,
        "dinov2_vitg14_reg": 1536,
    }
    assert set(ENCODERS) == {*dims, *PACKAGED}
    assert "unknown" not in ENCODERS


@pytest.mark.parametrize("name", [name for name in ENCODERS if name not in PACKAGED])
def test_each_licence_names_its_page(name: str) -> None:
    spec: EncoderSpec = ENCODERS[name]
    assert spec.name == name
    assert spec.licence.page.startswith("https://")
    assert spec.licence.noncommercial == ("-NC-" in spec.licence.terms)
    assert spec.licence.gated == (name in FACTS)
