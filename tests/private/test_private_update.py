"""An adapter on its way: what is refused, how far training can take it, and how large it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from pixcell_share.training import private
from pixcell_share.training.base import Base
from pixcell_share.training.private import (
    TrainingSettings,
    UpdateFault,
    adapter_bytes,
    adapter_digest,
    check_update,
    largest_change,
    seeded_adapter,
    weighted_mean,
)
from pixcell_share.training.private.update import change

START = {
    "a.lora_A.weight": np.ones((4, 8), np.float32),
    "a.lora_B.weight": np.zeros((8, 4), np.float32),
}
ONE = next(iter(START))


def moved(**changes: object) -> dict[str, np.ndarray]:
    return {**{name: value + np.float32(0.01) for name, value in START.items()}, **changes}


def test_exports() -> None:
    assert private.__all__ == sorted(private.__all__, key=lambda name: (name.islower(), name))
    assert len(private.__all__) == 28
    assert all(getattr(private, name) for name in private.__all__)


@pytest.mark.parametrize(
    ("update", "fault"),
    [
        (moved(), None),
        ({ONE: START[ONE]}, UpdateFault.NAMES),
        (moved(more=np.zeros(1, np.float32)), UpdateFault.NAMES),
        (moved() | {ONE: START[ONE].astype(np.float64)}, UpdateFault.DTYPE),
        (moved() | {ONE: START[ONE].astype(object)}, UpdateFault.DTYPE),
        (moved() | {ONE: START[ONE].T.copy()}, UpdateFault.SHAPE),
        (moved() | {ONE: np.ones((1, 8), np.float32)}, UpdateFault.SHAPE),
        (moved() | {ONE: np.full((4, 8), np.nan, np.float32)}, UpdateFault.NOT_FINITE),
        (moved() | {ONE: np.full((4, 8), -np.inf, np.float32)}, UpdateFault.NOT_FINITE),
        ({name: value * 1000 for name, value in moved().items()}, UpdateFault.TOO_LARGE),
        ({name: value + np.float32(1e38) for name, value in START.items()}, UpdateFault.TOO_LARGE),
    ],
    ids=[
        "good", "missing", "more", "double", "object", "turned", "broadcast", "nan", "infinite",
        "thousandfold", "huge",
    ],
)  # fmt: skip
def test_an_update_is_refused_with_its_reason(update, fault: UpdateFault | None) -> None:
    assert check_update(update, START, 0.1) == fault


@pytest.mark.parametrize("steps", [1, 2, 40])
def test_no_gradients_take_adamw_further_than_the_bound(steps: int) -> None:
    """Gradients that grow by a ninth in each step reach it; others stay behind."""
    training = TrainingSettings(rate=1e-3, weight_decay=0.0)
    start = {"a": np.zeros((2, 3), np.float32)}
    bound = largest_change(start, training, steps)

    def trained(growth: float) -> float:
        weight = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.AdamW([weight], lr=1e-3, weight_decay=0.0, eps=1e-30)
        for step in range(steps):
            weight.grad = torch.full((2, 3), growth**step, dtype=torch.float64)
            optimizer.step()
        return change({"a": weight.detach().numpy()}, start)

    assert trained(0.999 / 0.9) == pytest.approx(bound / 1.001, rel=1e-6)
    assert all(trained(growth) <= bound for growth in (0.5, 1.0, 1.05, 1.5, 3.0))


def test_weight_decay_is_within_the_bound() -> None:
    training = TrainingSettings(rate=1e-2, weight_decay=0.5)
    weight = torch.ones(3, 3, requires_grad=True)
    optimizer = torch.optim.AdamW([weight], lr=1e-2, weight_decay=0.5)
    for _ in range(20):
        weight.grad = torch.ones(3, 3)
        optimizer.step()
    start = {"a": np.ones((3, 3), np.float32)}
    found = change({"a": weight.detach().numpy()}, start)
    assert found <= largest_change(start, training, 20)
    assert found > largest_change(start, TrainingSettings(rate=1e-2, weight_decay=0.0), 20)


def test_what_travels_is_the_lora_alone(model: Path) -> None:
    """As a file it is within a tenth of the numbers' own bytes, and far below the model's."""
    base = Base.load("nano")
    adapter = seeded_adapter(base, TrainingSettings())
    rank, width = 4, base.transformer.config.cross_attention_dim
    layers = base.transformer.config.num_layers * 4
    assert adapter_bytes(adapter) == layers * 2 * rank * width * 4
    assert adapter_bytes(adapter) <= len(save(adapter)) < 1.1 * adapter_bytes(adapter)
    whole = sum(value.numel() * 4 for value in base.transformer.parameters())
    assert adapter_bytes(adapter) < whole / 10


def test_the_start_is_the_seeds_and_leaves_the_generator_alone(model: Path) -> None:
    base = Base.load(str(model))
    before = {name: value.clone() for name, value in base.transformer.state_dict().items()}
    one = seeded_adapter(base, TrainingSettings())
    assert adapter_digest(one) == adapter_digest(seeded_adapter(base, TrainingSettings()))
    assert adapter_digest(one) != adapter_digest(seeded_adapter(base, TrainingSettings(seed=1)))
    after = base.transformer.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("part", ["name", "shape", "number"])
def test_the_digest_changes_with_every_part(part: str) -> None:
    other = dict(START)
    if part == "name":
        other["b"] = other.pop(ONE)
    elif part == "shape":
        other[ONE] = other[ONE].reshape(8, 4)
    else:
        other[ONE] = other[ONE].copy()
        other[ONE][0, 0] = np.nextafter(np.float32(1), np.float32(2))
    assert adapter_digest(other) != adapter_digest(START)


def test_the_mean_is_weighted_and_float32() -> None:
    mean = weighted_mean([START, moved()], [1.0, 3.0])
    np.testing.assert_allclose(mean[ONE], 1.0075, rtol=1e-6)
    assert {value.dtype for value in mean.values()} == {np.dtype(np.float32)}
    for wrong in ([], [0.0]):
        with pytest.raises(ValueError, match="positive"):
            weighted_mean([START] * len(wrong), wrong)
