"""The transformer is DINOv2's: names, shapes, and with a clone at hand its features too."""

from __future__ import annotations

import hashlib
import os

import pytest
import torch

from pixcell_share.encoders.torch_hub import CLONE_VARIABLE
from pixcell_share.errors import SettingsError
from pixcell_share.ssl.architectures import ARCHITECTURES, Architecture, architecture
from pixcell_share.ssl.layers import Block, residual
from pixcell_share.ssl.vit import VisionTransformer

# Of what torch.hub.load builds at facebookresearch/dinov2 b8931f7: parameters, keys, and the start
# of SHA-256 over sorted lines "name [shape]" of its state dict.
PUBLISHED = {
    "dinov2_vits14": (22_056_576, 175, "eedff56179be33a0"),
    "dinov2_vits14_reg": (22_058_112, 176, "87c152f68e77b25b"),
    "dinov2_vitb14": (86_580_480, 175, "a92fa0b766268525"),
    "dinov2_vitb14_reg": (86_583_552, 176, "714c8c4b95fa62d2"),
    "dinov2_vitl14": (304_368_640, 343, "80902ae2cee6fcb4"),
    "dinov2_vitl14_reg": (304_372_736, 344, "8c773d0bd10f0489"),
    "dinov2_vitg14": (1_136_480_768, 567, "fb59ea14b9a5ea5c"),
    "dinov2_vitg14_reg": (1_136_486_912, 568, "0efe1450865650b2"),
}
CLONE = os.environ.get(CLONE_VARIABLE)
TINY = Architecture("t", 24, 2, 2, patch=4, image_px=32, published=False)


def test_every_published_state_dict() -> None:
    assert {name for name, shape in ARCHITECTURES.items() if shape.published} == set(PUBLISHED)
    for name, facts in PUBLISHED.items():
        with torch.device("meta"):
            state = VisionTransformer(architecture(name)).state_dict()
        lines = "".join(f"{key} {list(state[key].shape)}\n" for key in sorted(state))
        digest = hashlib.sha256(lines.encode()).hexdigest()[:16]
        assert (sum(v.numel() for v in state.values()), len(state), digest) == facts, name


@pytest.mark.skipif(CLONE is None, reason=f"{CLONE_VARIABLE} names no clone of dinov2")
@pytest.mark.parametrize("name", ["dinov2_vits14", "dinov2_vits14_reg"])
def test_features_equal_the_hub_models(name: str) -> None:
    ours = VisionTransformer(architecture(name), layer_scale=1.0)
    hub = torch.hub.load(CLONE, name, source="local", pretrained=False, verbose=False).eval()
    hub.load_state_dict(ours.state_dict(), strict=True)
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), hub(images), atol=1e-5, rtol=0)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(SettingsError, match="vith14"):
        architecture("dinov2_vith14")


def test_masked_patches_are_not_seen() -> None:
    torch.manual_seed(0)
    model = VisionTransformer(TINY, layer_scale=1.0)
    images, masks = torch.randn(2, 3, 32, 32), torch.zeros(2, 64, dtype=torch.bool)
    masks[:, 0] = True
    other = images.clone()
    other[:, :, :4, :4] += 1  # inside the masked patch
    with torch.no_grad():
        assert torch.equal(
            model.tokens(images, masks).of_class, model.tokens(other, masks).of_class
        )
        assert not torch.equal(model(images), model(other))


@pytest.mark.parametrize("registers", [0, 4])
def test_tokens_have_their_shapes(registers: int) -> None:
    shape = Architecture("t", 24, 1, 2, patch=4, registers=registers, image_px=32)
    tokens = VisionTransformer(shape).tokens(torch.randn(2, 3, 16, 24))
    assert tokens.of_class.shape == (2, 24)
    assert tokens.of_patches.shape == (2, 4 * 6, 24)


def test_stochastic_depth_leaves_branches_out_and_keeps_their_mean() -> None:
    tokens = torch.randn(6, 3, 4)
    seen: list[int] = []

    def branch(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return x * 2

    kept = torch.tensor([1, 4])
    out = residual(tokens, branch, kept)
    expected = tokens.clone()
    expected[kept] += 2 * tokens[kept] * 6 / 2
    torch.testing.assert_close(out, expected)
    assert seen == [2]
    # Over all choices of rows the mean is that of the whole branch.
    means = torch.stack([residual(tokens, branch, torch.tensor([i])) for i in range(6)]).mean(0)
    torch.testing.assert_close(means, tokens + 2 * tokens)


def test_attention_and_feed_forward_have_rows_of_their_own() -> None:
    block = Block(8, 2, 16, gated=False, layer_scale=1.0)
    torch.nn.init.ones_(block.ls1.gamma)
    tokens = torch.randn(4, 3, 8)
    out = block(tokens, torch.tensor([[0], [3]]))
    changed = [not torch.equal(before, after) for before, after in zip(tokens, out, strict=True)]
    assert changed == [True, False, False, True]
