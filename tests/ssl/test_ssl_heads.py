"""Heads that are standardised over the batch."""

from __future__ import annotations

import pytest
import torch

from pixcell_share.ssl.batch import CropBatch, masked_places
from pixcell_share.ssl.heads import HeadSettings, ProjectionHead, Standardised
from pixcell_share.ssl.network import Network
from tests.ssl.conftest import MakeSettings


def test_it_is_torchs_batch_norm() -> None:
    tokens = torch.randn(7, 5) * 3 + 4
    peer = torch.nn.BatchNorm1d(5, affine=False, track_running_stats=False)
    torch.testing.assert_close(Standardised()(tokens), peer(tokens), atol=1e-6, rtol=0)


@pytest.mark.parametrize("rows", [0, 1])
def test_a_crop_may_have_one_masked_patch_or_none(rows: int) -> None:
    tokens = torch.randn(rows, 5, requires_grad=True)
    out = Standardised()(tokens)
    assert out.shape == (rows, 5) and not out.any()
    out.sum().backward()
    assert torch.isfinite(tokens.grad).all()


def test_alike_tokens_are_told_apart_from_the_start() -> None:
    """Tokens that differ by a hundredth of what they share: a plain head sees one image."""
    torch.manual_seed(0)
    tokens = torch.randn(1, 64) + 0.01 * torch.randn(32, 64)
    spread = {}
    for standardised in (False, True):
        sizes = HeadSettings(prototypes=64, hidden=64, bottleneck=16, standardised=standardised)
        spread[standardised] = ProjectionHead(64, sizes)(tokens).std(0).mean().item()
    assert spread[False] < 0.02 and spread[True] > 0.1


def test_class_tokens_do_not_depend_on_how_many_patches_are_masked(settings: MakeSettings) -> None:
    wanted = settings(drop_path=0.0, dino_head={"standardised": True})
    torch.manual_seed(0)
    network = Network(wanted)
    seen = []
    for count in (1, 9):
        masks = torch.zeros(8, 16, dtype=torch.bool)
        masks[:, :count] = True
        masked, weights = masked_places(masks)
        generator = torch.Generator().manual_seed(1)
        big = torch.randint(0, 256, (2, 4, 3, 32, 32), dtype=torch.uint8, generator=generator)
        batch = CropBatch(
            globals=big, locals=big[:0, :, :, :16, :16], masks=masks, masked=masked,
            weights=weights, global_kept=None, local_kept=None, positions=torch.arange(4),
        )  # fmt: skip
        with torch.no_grad():
            seen.append(network(batch, student=False).global_logits)
    assert torch.equal(*seen)
