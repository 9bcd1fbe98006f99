"""The quick replacements compute what they replace, and the distances what they claim."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pixcell_share.nano.descriptor import DESCRIPTOR_DIM, Standard, describe
from pixcell_share.nano.encoder import contrast
from pixcell_share.nano.fidelity import ClassProbe, colour_agreement, finds_group, psnr
from pixcell_share.nano.frechet import Whitening, frechet_distance
from pixcell_share.nano.groupnorm import use_fast_group_norm
from pixcell_share.nano.loop import Budget


def test_group_norm_gives_the_same_values_and_gradients() -> None:
    torch.manual_seed(0)
    plain, quick = nn.GroupNorm(4, 16), nn.GroupNorm(4, 16)
    nn.init.normal_(plain.weight)
    nn.init.normal_(plain.bias)
    quick.load_state_dict(plain.state_dict())
    use_fast_group_norm(quick)
    x = torch.randn(3, 16, 7, 5).to(memory_format=torch.channels_last) + 2
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [norm(value) for norm, value in zip((plain, quick), inputs, strict=True)]
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-4)
    for output in outputs:
        (output * torch.arange(5.0)).sum().backward()
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(quick.weight.grad, plain.weight.grad, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(quick.bias.grad, plain.bias.grad, rtol=1e-4, atol=1e-3)


def test_frechet_distance_of_known_gaussians() -> None:
    rng = np.random.default_rng(0)
    sample = rng.normal(size=(4000, 3))
    sample = (sample - sample.mean(0)) / sample.std(0, ddof=1)
    assert frechet_distance(sample, sample) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(sample, sample + np.array([3, 0, 4])) == pytest.approx(25)
    # Scaling by 3 changes each deviation from 1 to 3: the distance is 3 * (3 - 1)².
    assert frechet_distance(sample, 3 * sample) == pytest.approx(12)


def test_whitening_gives_uncorrelated_unit_features() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(500, 6)) @ rng.normal(size=(6, 6))
    np.testing.assert_allclose(
        np.cov(Whitening.fit(features, 4)(features), rowvar=False), np.eye(4), atol=1e-8
    )


def test_colour_agreement_tells_own_from_shuffled() -> None:
    rng = np.random.default_rng(0)
    colours = rng.integers(20, 220, (20, 1, 1, 3))
    real = np.broadcast_to(colours, (20, 8, 8, 3)).astype(np.uint8)
    figures = colour_agreement(real + np.uint8(5), real)
    assert figures["correlation_own"] == pytest.approx(1)
    assert figures["grey_levels_own"] == pytest.approx(5)
    assert figures["grey_levels_shuffled"] > 30


def test_psnr_of_a_known_error() -> None:
    black = np.zeros((2, 4, 4, 3), np.uint8)
    assert psnr(black, black + np.uint8(255)) == pytest.approx(0)
    assert psnr(black, black + np.uint8(51)) == pytest.approx(20 * np.log10(5))


def test_probe_and_retrieval_on_separable_features() -> None:
    rng = np.random.default_rng(0)
    labels = np.array(["a", "b", "c"])[np.arange(60) % 3]
    features = np.eye(3)[np.arange(60) % 3] * 5 + rng.normal(size=(60, 3)) * 0.1
    assert ClassProbe(features, labels).accuracy(features, labels) == 1
    assert finds_group(features, features[::-1], labels, labels[::-1]) == 1
    assert finds_group(features, features[::-1], labels, np.roll(labels[::-1], 1)) < 0.5


def test_descriptor_sees_stain_and_texture() -> None:
    torch.manual_seed(0)
    flat = torch.full((1, 3, 64, 64), 0.5)
    rough = flat + 0.2 * torch.randn(1, 3, 64, 64)
    pink = torch.tensor([0.8, 0.2, 0.5]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    described = describe(torch.cat([flat, rough, pink]))
    assert described.shape == (3, DESCRIPTOR_DIM)
    assert described.isfinite().all()
    assert (described[1, -20:] > described[0, -20:]).all(), "bands grow with texture"
    standard = Standard.of(torch.randn(50, 45))
    assert standard(standard.mean[None]).abs().max() == 0


def test_contrast_prefers_matching_views() -> None:
    torch.manual_seed(0)
    views = torch.randn(8, 16)
    assert contrast(views, views, 0.1) < contrast(views, views.roll(1, 0), 0.1) - 1


def test_the_learning_rate_rises_then_falls_with_the_nearer_limit() -> None:
    budget = Budget(steps=100, minutes=10, warmup=0.1, floor=0.02)
    assert budget.done(50, 0) == 0.5
    assert budget.done(1, 9 * 60) == pytest.approx(0.9)
    rates = [budget.rate(at / 100) for at in range(101)]
    assert max(rates) == pytest.approx(1, abs=0.01) and rates[0] < 0.02
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.02)
