"""What each optimizer is given, what it decays, and how the rate goes."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from pixcell_share.errors import SettingsError
from pixcell_share.training.optimizers import (
    build_optimizers,
    learning_rate,
    rate_factor,
    set_rates,
)
from pixcell_share.training.stages import preset
from pixcell_share.training.start import build_model

TINY = preset("tiny", 256)
MUON = replace(
    TINY, optimizer="muon", rate=1e-3, matrix_rate=2e-3, weight_decay=0.02, schedule="cosine"
)
CAME = replace(TINY, optimizer="came", betas=(0.9, 0.999, 0.9999), weight_decay=0.0)


@pytest.fixture
def model():
    return build_model(TINY, 24, 16)


def step_without_gradient(model, settings) -> dict[str, float]:
    """By how much each weight shrinks in a step whose gradients are zero."""
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    optimizers = build_optimizers(model, settings)
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    for optimizer in optimizers:
        optimizer.step()
    return {
        name: float(1 - weight.detach().norm() / before[name].norm())
        for name, weight in model.named_parameters()
        if before[name].any()
    }


def test_adamw_decays_every_weight(model) -> None:
    settings = replace(TINY, rate=0.1, weight_decay=0.5)
    shrunk = step_without_gradient(model, settings)
    assert list(shrunk.values()) == pytest.approx([0.05] * len(shrunk), rel=1e-3)


def test_muon_decays_its_matrices_alone(model) -> None:
    settings = replace(MUON, matrix_rate=0.1, rate=0.1, weight_decay=0.5)
    shrunk = step_without_gradient(model, settings)
    for name, share in shrunk.items():
        inside = name.startswith("transformer_blocks.") and name.endswith(".weight")
        assert share == pytest.approx(0.05 if inside else 0.0, abs=1e-4), name


@pytest.mark.parametrize("settings", [TINY, CAME, MUON], ids=lambda each: each.optimizer)
def test_every_trained_weight_has_one_optimizer(model, settings) -> None:
    model.proj_out.bias.requires_grad_(False)
    optimizers = build_optimizers(model, settings)
    held = [id(w) for each in optimizers for group in each.param_groups for w in group["params"]]
    trained = [id(weight) for weight in model.parameters() if weight.requires_grad]
    assert sorted(held) == sorted(trained)


@pytest.mark.parametrize("settings", [TINY, CAME, MUON], ids=lambda each: each.optimizer)
def test_the_optimizers_descend(model, settings) -> None:
    optimizers = build_optimizers(model, settings)
    inputs = torch.randn(2, 16, 32, 32, generator=torch.Generator().manual_seed(0))
    condition, times = torch.ones(2, 1, 24), torch.tensor([3, 700])
    losses = []
    for step in range(8):
        set_rates(optimizers, replace(settings, schedule="constant"), step)
        output = model(inputs, condition, times).sample
        loss = (output - 1).square().mean()
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(math.isfinite(value) for value in losses)


def test_came_names_the_extra_where_it_is_missing(model, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "came_pytorch", None)
    with pytest.raises(SettingsError, match="CAME") as caught:
        build_optimizers(model, CAME)
    assert "train" in caught.value.remedy


def test_a_frozen_model_is_refused(model) -> None:
    model.requires_grad_(False)
    with pytest.raises(SettingsError, match="nothing to train"):
        build_optimizers(model, TINY)


def test_the_rate_goes_as_torchs_schedulers() -> None:
    settings = replace(MUON, steps=50, warmup=10, floor=0.0)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=settings.rate)
    rise = LinearLR(optimizer, start_factor=0.1, total_iters=9)
    fall = CosineAnnealingLR(optimizer, T_max=40)
    schedule = SequentialLR(optimizer, [rise, fall], milestones=[10])
    for step in range(50):
        rate = optimizer.param_groups[0]["lr"]
        assert learning_rate(settings, step) == pytest.approx(rate, rel=1e-6), step
        optimizer.step()
        schedule.step()


def test_the_papers_rate_is_constant_and_cames_warms_up() -> None:
    paper, came = preset("paper", 256), preset("came", 256)
    assert {learning_rate(paper, step) for step in (0, 1, 60_000, 119_999)} == {2e-5}
    assert learning_rate(came, 0) == pytest.approx(2e-8)
    assert learning_rate(came, 499) == pytest.approx(1e-5)
    assert {learning_rate(came, step) for step in (999, 1000, 119_999)} == {2e-5}


def test_the_cosine_ends_at_its_floor() -> None:
    settings = replace(MUON, steps=100, floor=0.02)
    assert rate_factor(settings, 100) == pytest.approx(0.02)
    assert rate_factor(settings, 0) == 1


def test_both_rates_of_muon_follow_the_schedule(model) -> None:
    settings = replace(MUON, steps=100, warmup=4)
    optimizers = build_optimizers(model, settings)
    set_rates(optimizers, settings, 0)
    assert [each.param_groups[0]["lr"] for each in optimizers] == pytest.approx([5e-4, 2.5e-4])
    set_rates(optimizers, settings, 4)
    assert [each.param_groups[0]["lr"] for each in optimizers] == pytest.approx([2e-3, 1e-3])
