"""No seam: at window borders the picture changes no more than elsewhere."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from pixcell_share.pixcell import PixCell, PixCellTransformer2DModel, folders
from pixcell_share.pixcell.blend import decode_windows
from pixcell_share.pixcell.large import LargePicture, LargeSettings
from pixcell_share.pixcell.windows import Windows


def gradients(picture: np.ndarray, axis: int) -> np.ndarray:
    """Mean absolute difference between each line and the next, along ``axis``."""
    return np.abs(np.diff(picture.astype(float), axis=axis)).mean(axis=(1 - axis, 2))


def border_share(picture: np.ndarray, windows: Windows, axis: int, phase: int) -> float:
    """How often as many other lines, drawn at random, change at least as much as the borders.

    Lines are compared with lines at the same place in a patch only: a transformer's patches and
    a VAE's cells have borders of their own. Near 0: a seam; uniform in 0 to 1 without one.
    """
    starts = windows.tops if axis == 0 else windows.lefts
    edges = {8 * place for start in starts for place in (start, start + windows.side)}
    change = gradients(picture, axis)
    lines = np.arange(phase, len(change) + 1, phase)
    at_border = np.isin(lines, sorted(edges))
    borders, others = change[lines[at_border] - 1], change[lines[~at_border] - 1]
    draw = np.random.default_rng(0)
    means = [draw.choice(others, len(borders), replace=False).mean() for _ in range(2000)]
    return float((np.array(means) >= borders.mean()).mean())


SEAM = 0.001
"""A border that changes more than all but one in a thousand random choices of other lines."""


@pytest.fixture(scope="module")
def nano_of_four() -> PixCell:
    """nano with four tokens over its usual 256 px: a trained model whose windows are small.

    It was trained with one token; with all four the same and no positions it sees what it knows.
    """
    if not folders._NANO_FOLDER.is_dir():
        pytest.skip("nano is not in the package")
    nano = PixCell.from_pretrained("nano")
    config: dict[str, Any] = {k: v for k, v in nano.transformer.config.items() if k[0] != "_"}
    four = PixCellTransformer2DModel(**config | {"caption_num_tokens": 4}).eval()
    state = dict(nano.transformer.state_dict())
    null = "caption_projection.uncond_embedding"
    state[null] = state[null].expand(4, -1).clone()
    state["y_pos_embed.y_pos_embed"] = torch.zeros(1, 4, nano.embedding_dim)
    four.load_state_dict(state)
    return PixCell(four, nano.codec, nano.new_scheduler(), guidance_scale=1.0)


def draw(model: PixCell, **changes: Any) -> tuple[np.ndarray, Windows]:
    """512 px of nano's unconditional tissue."""
    null = model.transformer.caption_projection.uncond_embedding[0].numpy()
    tiles = np.broadcast_to(null, (4, 4, len(null)))
    settings = LargeSettings(**{"steps": 6, "batch_size": 9, **changes})
    picture = LargePicture(model, tiles, 1, settings)
    return picture.array(), picture.windows


@pytest.mark.slow
def test_a_trained_model_shows_no_seam(nano_of_four):
    picture, windows = draw(nano_of_four)
    assert picture.std() > 10
    assert min(border_share(picture, windows, axis, 16) for axis in (0, 1)) > SEAM


@pytest.mark.slow
def test_without_overlap_the_same_test_sees_the_seams(nano_of_four):
    """The negative control: no averaging, no blending."""
    picture, windows = draw(nano_of_four, stride=32, average_sigma=math.inf, decode_sigma=math.inf)
    assert max(border_share(picture, windows, axis, 16) for axis in (0, 1)) <= SEAM


@pytest.mark.parametrize(
    ("stride", "sigma", "seam"), [(4, 0.4, False), (8, 0.4, True), (4, math.inf, True)]
)
@torch.inference_mode()
def test_blended_decoding_shows_no_seam(make_pixcell, stride, sigma, seam):
    """Smooth latents through a random VAE, whose norms and padding differ in each window."""
    codec = make_pixcell().codec
    coarse = torch.randn(1, 16, 6, 6, generator=torch.Generator().manual_seed(1))
    latents = torch.nn.functional.interpolate(coarse, (48, 48), mode="bicubic")[0]
    windows = Windows.over(48, 48, 8, stride)
    strips = decode_windows(codec, latents, windows, batch_size=8, sigma=sigma)
    picture = torch.cat(list(strips), dim=1).permute(1, 2, 0).numpy()
    share = min(border_share(picture, windows, axis, 8) for axis in (0, 1))
    assert (share <= SEAM) is seam
