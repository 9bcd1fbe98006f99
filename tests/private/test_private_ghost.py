"""Ghost norms and clipped sums against explicit gradients of every patient, and against opacus."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from pixcell_share.errors import SettingsError
from pixcell_share.pixcell.load import load_transformer
from pixcell_share.pixcell.lora import add_lora
from pixcell_share.training.adapt import lora_stage
from pixcell_share.training.base import Base
from pixcell_share.training.batch import Batch
from pixcell_share.training.objective import DiffusionObjective, Losses, ObjectiveSettings
from pixcell_share.training.private.ghost import Grouping, squared_norms, whole_products
from pixcell_share.training.private.gradients import PatientGradients, PatientTiles
from pixcell_share.training.run import prepare_attention
from tests.private.explicit import norm, patient_gradients
from tests.tiny import DIM, make_tiny_model

OBJECTIVE = DiffusionObjective(ObjectiveSettings(learned_variance=False))
CPU = torch.device("cpu")
UNEVEN = [0, 2, 1, 2, 0, 2, 3]
"""One to three tiles of four patients, not in order."""


def tiles_of(owners: list[int], tokens: int = 1, side: int = 32, seed: int = 0) -> PatientTiles:
    draw = torch.Generator().manual_seed(seed)
    count = len(owners)
    batch = Batch(
        latents=torch.randn(count, 16, side, side, generator=draw),
        condition=torch.randn(count, tokens, DIM, generator=draw),
        noise=torch.randn(count, 16, side, side, generator=draw),
        timesteps=torch.randint(0, 1000, (count,), generator=draw),
        dropped=torch.rand(count, generator=draw) < 0.3,
        weights=torch.ones(count),
        positions=torch.arange(count),
    )
    return PatientTiles(batch, torch.tensor(owners), max(owners) + 1)


def adapted(folder: Path) -> nn.Module:
    """With a LoRA whose second matrices are not at zero, so that all matrices have a gradient."""
    base = Base.load(str(folder))
    add_lora(base.transformer, seed=1)
    with torch.no_grad():
        for name, value in base.transformer.named_parameters():
            if "lora_B" in name:
                value.normal_(0, 0.1, generator=torch.Generator().manual_seed(len(name)))
    stage = lora_stage(base, batch=4, micro_batch=4, steps=1)
    prepare_attention(base.transformer, stage, CPU)
    return base.transformer.train()


@pytest.fixture(scope="module")
def one_token(model: Path) -> nn.Module:
    return adapted(model)


@pytest.fixture(scope="module")
def four_tokens(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    """512 px, with attention to four embeddings: query and key are trained as well."""
    folder = tmp_path_factory.mktemp("tokens") / "model"
    return adapted(make_tiny_model(folder, tile_px=512, tokens=4))


@pytest.mark.parametrize("case", ["one_token", "four_tokens"])
def test_norms_are_those_of_explicit_gradients(case: str, request) -> None:
    model = request.getfixturevalue(case)
    tiles = tiles_of(UNEVEN, 1, 32) if case == "one_token" else tiles_of(UNEVEN, 4, 64)
    found = PatientGradients(model, OBJECTIVE, clip=0.05)(tiles)
    explicit = patient_gradients(model, OBJECTIVE, tiles)
    wanted = torch.tensor([norm(gradient) for gradient in explicit])
    assert len(wanted) == 4
    torch.testing.assert_close(found.norms, wanted, rtol=1e-5, atol=0)
    factors = (0.05 / wanted).clamp(max=1)
    assert factors.min() < 1
    for name, value in found.total.items():
        total = sum(f * gradient[name] for f, gradient in zip(factors, explicit, strict=True))
        torch.testing.assert_close(value, total, rtol=1e-4, atol=2e-7)


@pytest.mark.parametrize(("tokens", "high"), [(2, 64), (200, 4)], ids=["gram", "matrix"])
def test_both_ways_to_a_layers_norm(tokens: int, high: int) -> None:
    draw = torch.Generator().manual_seed(0)
    owners = torch.tensor(UNEVEN)
    inputs = torch.randn(len(owners), tokens, 64, generator=draw)
    gradients = torch.randn(len(owners), tokens, high, generator=draw)
    found = squared_norms(inputs, gradients, Grouping(owners, 4))
    for patient in range(4):
        own = owners == patient
        matrix = torch.einsum("bto,bti->oi", gradients[own].double(), inputs[own].double())
        assert float(found[patient]) == pytest.approx(float(matrix.square().sum()), rel=1e-5)


def test_with_one_tile_each_the_norms_are_opacus_own(model: Path) -> None:
    tiles = tiles_of(list(range(5)))
    ours = PatientGradients(adapted(model), OBJECTIVE, clip=0.05)(tiles)
    theirs = adapted(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from opacus.grad_sample import GradSampleModuleFastGradientClipping

        wrapped = GradSampleModuleFastGradientClipping(
            theirs, loss_reduction="mean", strict=False, max_grad_norm=0.05
        )
        wrapped.null_embedding = theirs.null_embedding
        OBJECTIVE(wrapped, tiles.batch).total.backward()
    torch.testing.assert_close(ours.norms, wrapped.get_norm_sample(), rtol=1e-5, atol=0)


def test_one_patient_changes_the_sum_by_the_clip_at_most(one_token: nn.Module) -> None:
    gradients, tiles = PatientGradients(one_token, OBJECTIVE, clip=0.05), tiles_of(UNEVEN)
    whole = gradients(tiles)
    assert (whole.norms > 0.05).any()
    for patient in range(tiles.patients):
        own = tiles.owners == patient
        without = replace(tiles.batch, weights=(~own).float())
        rest = gradients(replace(tiles, batch=without))
        moved = norm({name: value - rest.total[name] for name, value in whole.total.items()})
        assert moved <= 0.05
        assert moved == pytest.approx(min(0.05, float(whole.norms[patient])), rel=1e-3)


def test_a_patients_contribution_does_not_depend_on_the_company(one_token: nn.Module) -> None:
    gradients, tiles = PatientGradients(one_token, OBJECTIVE, clip=None), tiles_of(UNEVEN)
    together = gradients(tiles)
    weights = (tiles.owners == 2).float()
    alone = gradients(replace(tiles, batch=replace(tiles.batch, weights=weights)))
    torch.testing.assert_close(alone.norms[2], together.norms[2], rtol=1e-5, atol=0)
    assert alone.norms[[0, 1, 3]].tolist() == [0, 0, 0]


def test_no_gradient_is_left_on_the_weights(one_token: nn.Module) -> None:
    PatientGradients(one_token, OBJECTIVE, clip=0.05)(tiles_of(UNEVEN))
    assert all(value.grad is None for value in one_token.parameters())


def test_nothing_may_be_trained_but_linear_weights(model: Path) -> None:
    other = load_transformer(model / "transformer")
    add_lora(other)
    other.scale_shift_table.requires_grad_(True)
    with pytest.raises(SettingsError, match="scale_shift_table"):
        PatientGradients(other, OBJECTIVE, clip=1.0)


def test_a_layer_that_runs_twice_is_refused() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4, bias=False)

    def objective(model: Twice, batch: Batch) -> Losses:
        out = model.layer(model.layer(batch.latents)).square().flatten(1).mean(1)
        return Losses((batch.weights * out).mean(), out.detach(), batch.timesteps)

    with pytest.raises(ValueError, match="once"):
        PatientGradients(Twice(), objective, clip=1.0)(tiles_of([0, 1], side=4))


def test_products_are_whole_whatever_the_caller_set() -> None:
    torch.set_float32_matmul_precision("high")
    try:
        with whole_products():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
