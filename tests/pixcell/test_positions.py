"""The sin-cos tables against their formulas, written out here a second time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pixcell_share.pixcell.positions import TokenPositions, patch_table, token_table


def sines(coordinate: float, dim: int) -> np.ndarray:
    frequencies = 10000.0 ** (-np.arange(dim // 2) / (dim // 2))
    return np.concatenate([np.sin(coordinate * frequencies), np.cos(coordinate * frequencies)])


def test_token_positions_of_pixcell_1024():
    table = token_table(1536, 16, side=64, interpolation_scale=2).numpy()
    assert table.shape == (1, 16, 1536)
    coordinates = [4.0, 12.0, 20.0, 28.0]
    for row in range(4):
        for col in range(4):
            wanted = np.concatenate([sines(coordinates[col], 768), sines(coordinates[row], 768)])
            np.testing.assert_allclose(table[0, 4 * row + col], wanted, atol=1e-6)


@pytest.mark.parametrize(("side", "scale"), [(16, 0.5), (32, 1.0), (64, 2.0)])
def test_patch_positions(side, scale):
    table = patch_table(64, side, scale).numpy()
    assert table.shape == (1, side * side, 64)
    for row, col in [(0, 0), (0, 3), (5, 1), (side - 1, side - 1)]:
        wanted = np.concatenate([sines(col / scale, 32), sines(row / scale, 32)])
        np.testing.assert_allclose(table[0, row * side + col], wanted, atol=1e-5)


def test_a_token_lies_at_the_centre_of_its_patches():
    side, scale, dim = 32, 1.0, 8
    tokens = token_table(dim, 4, side, scale)[0]
    middle_between_patches = (side / 2 - 1) / 2 / scale + 0.5 / scale  # 8, patches are 0..15
    wanted = sines(middle_between_patches, dim // 2)
    np.testing.assert_allclose(tokens[0].numpy(), np.concatenate([wanted, wanted]), atol=1e-6)


@pytest.mark.parametrize(("dim", "tokens", "named"), [(24, 3, "square"), (26, 4, "divisible by 4")])
def test_impossible_tables_are_refused(dim, tokens, named):
    with pytest.raises(ValueError, match=named):
        token_table(dim, tokens, side=8, interpolation_scale=1)


def test_positions_keep_the_dtype_of_the_embeddings():
    module = TokenPositions(24, 4, side=8, interpolation_scale=1)
    assert module(torch.zeros(2, 4, 24, dtype=torch.bfloat16)).dtype == torch.bfloat16
