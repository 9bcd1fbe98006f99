"""The losses agree with lightly's, and with the formulas where lightly has none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pixcell_share.ssl.losses import (
    Centre,
    cross_entropy,
    dino_loss,
    ibot_loss,
    koleo_loss,
    sinkhorn_knopp,
)

lightly = pytest.importorskip("lightly.loss", reason="lightly is not installed (a peer)")
CLOSE = {"atol": 1e-5, "rtol": 0}


def alone(values: Tensor) -> Tensor:
    """The sum over one rank."""
    return values


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("local_crops", [0, 8])
def test_dino_with_its_centre_over_three_steps(local_crops: int) -> None:
    peer, centre = lightly.DINOLoss(output_dim=50), Centre(50)
    for step, temperature in enumerate((0.04, 0.055, 0.07)):
        teacher, student = torch.randn(2, 6, 50), torch.randn(2 + local_crops, 6, 50)
        ours_in, peer_in = student.clone().requires_grad_(), student.clone().requires_grad_()
        targets = centre.targets(teacher.flatten(0, 1), temperature).view(2, 6, 50)
        ours = dino_loss(ours_in[:2], ours_in[2:], targets)
        theirs = peer(list(teacher), list(peer_in), teacher_temp=temperature)
        torch.testing.assert_close(ours, theirs, **CLOSE)
        ours.backward(), theirs.backward()
        torch.testing.assert_close(ours_in.grad, peer_in.grad, **CLOSE)
        centre.update(alone)
        torch.testing.assert_close(centre.value, peer.center.flatten(), **CLOSE)
        assert step == 0 or float(centre.value.abs().max()) > 0.05


def test_ibot_with_its_centre_over_three_steps() -> None:
    peer, centre = lightly.IBOTPatchLoss(output_dim=50), Centre(50)
    for temperature in (0.04, 0.055, 0.07):
        masks = torch.rand(6, 4, 4) < torch.tensor([0, 0.1, 0.2, 0.5, 0.9, 1])[:, None, None]
        teacher, student = torch.randn(int(masks.sum()), 50), torch.randn(int(masks.sum()), 50)
        flat = masks.flatten(1)
        weights = (1 / flat.sum(1).clamp(min=1))[:, None].expand_as(flat)[flat]
        ours = ibot_loss(student, centre.targets(teacher, temperature), weights, len(masks))
        theirs = peer(teacher, student, masks, teacher_temp=temperature)
        torch.testing.assert_close(ours, theirs, **CLOSE)
        centre.update(alone)
        torch.testing.assert_close(centre.value, peer.center.value.flatten(), **CLOSE)


def test_koleo_and_its_gradient() -> None:
    tokens = torch.randn(7, 20)
    ours_in, peer_in = tokens.clone().requires_grad_(), tokens.clone().requires_grad_()
    ours, theirs = koleo_loss(ours_in), lightly.KoLeoLoss()(peer_in)
    torch.testing.assert_close(ours, theirs, **CLOSE)
    ours.backward(), theirs.backward()
    torch.testing.assert_close(ours_in.grad, peer_in.grad, **CLOSE)


@pytest.mark.parametrize("tokens", [torch.zeros(0, 4), torch.randn(1, 4)], ids=["none", "one"])
def test_koleo_of_fewer_than_two_is_zero(tokens: Tensor) -> None:
    tokens = tokens.requires_grad_()
    loss = koleo_loss(tokens)
    loss.backward()
    assert loss.item() == 0 and torch.equal(tokens.grad, torch.zeros_like(tokens))


def test_koleo_of_equal_embeddings_is_finite() -> None:
    tokens = torch.ones(3, 4, requires_grad=True)
    loss = koleo_loss(tokens)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(tokens.grad).all()


def test_ibot_without_a_mask_is_zero() -> None:
    logits = torch.randn(0, 8, requires_grad=True)
    loss = ibot_loss(logits, torch.randn(0, 8), torch.randn(0), crops=4)
    loss.backward()
    assert loss.item() == 0


def test_cross_entropy_keeps_large_logits() -> None:
    logits, targets = 40 * torch.randn(5, 9), torch.softmax(torch.randn(5, 9), -1)
    expected = -(targets * torch.log_softmax(logits.double() / 0.1, -1)).sum(-1)
    torch.testing.assert_close(
        cross_entropy(logits, targets).double(), expected, rtol=1e-5, atol=1e-3
    )


def test_a_centre_of_micro_batches_is_that_of_their_sum() -> None:
    whole, parts = Centre(6), Centre(6)
    logits = torch.randn(9, 6)
    whole.targets(logits, 0.05)
    for part in logits.split([2, 7]):
        parts.targets(part, 0.05)
    whole.update(alone), parts.update(alone)
    torch.testing.assert_close(whole.value, parts.value)
    before = parts.value.clone()
    parts.update(alone)  # a step without a row
    assert torch.equal(parts.value, before)


def published_sinkhorn(logits: Tensor, temperature: float) -> Tensor:
    """DINOv2's ``sinkhorn_knopp_teacher`` as its paper has it: Q is prototypes by samples."""
    q = torch.exp(logits.double() / temperature).t()
    prototypes, samples = q.shape
    q = q / q.sum()
    for _ in range(3):
        q = q / q.sum(1, keepdim=True) / prototypes
        q = q / q.sum(0, keepdim=True) / samples
    return (q * samples).t()


def test_sinkhorn_is_the_published_one() -> None:
    logits = torch.randn(12, 30).clamp(-1, 1)
    found = sinkhorn_knopp(logits, 0.05)
    torch.testing.assert_close(found.double(), published_sinkhorn(logits, 0.05), **CLOSE)
    torch.testing.assert_close(found.sum(1), torch.ones(12), **CLOSE)


def test_sinkhorn_of_large_logits_and_of_none_is_finite() -> None:
    assert torch.isfinite(sinkhorn_knopp(300 * torch.randn(12, 30), 0.04)).all()
    assert sinkhorn_knopp(torch.randn(0, 30), 0.04).shape == (0, 30)
