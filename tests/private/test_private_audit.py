"""Does a private step keep the epsilon that it claims? A one-run audit of the noised gradient.

Canary patients with a tile each are in or out by a coin (`pixcell_share.privacy.one_run`). The
attacker sees what DP-SGD's accountant lets him see, the noised mean gradient, and knows every
canary's clipped gradient: least squares then gives each one's coin as well as the noise allows.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pixcell_share.privacy.one_run import audit_lower_bound, most_detectable
from pixcell_share.training.batches import map_tensors
from pixcell_share.training.private import noise_multiplier_for
from pixcell_share.training.private.gradients import PatientGradients, PatientTiles
from pixcell_share.training.private.noise import noised_mean
from pixcell_share.training.private.stream import SecretStream
from tests.private.test_private_ghost import OBJECTIVE, adapted, tiles_of

CANARIES, CLIP, DELTA, EPSILON = 40, 0.02, 1e-5, 1.0


@pytest.fixture(scope="module")
def gradients(model: Path) -> PatientGradients:
    return PatientGradients(adapted(model), OBJECTIVE, CLIP)


def flat(total: dict[str, torch.Tensor]) -> np.ndarray:
    return torch.cat([value.flatten() for value in total.values()]).double().numpy()


def alone(tiles: PatientTiles, canary: int) -> PatientTiles:
    """The one tile of a canary."""
    batch = map_tensors(tiles.batch, lambda tensor: tensor[canary : canary + 1])
    return PatientTiles(batch, torch.zeros(1, dtype=torch.int64), 1)


def lower_bound(gradients: PatientGradients, noise_multiplier: float, run: int) -> float:
    """Epsilon is at least this, as one run shows."""
    tiles = tiles_of(list(range(CANARIES)), seed=run)
    stream = SecretStream(bytes([run]) * 32, "audit")
    inside = stream.uniform(CANARIES, "coins") < 0.5
    own = np.stack([flat(gradients(alone(tiles, canary)).total) for canary in range(CANARIES)])
    assert (np.linalg.norm(own, axis=1) > 0.99 * CLIP).all()
    chosen = replace(tiles.batch, weights=torch.from_numpy(inside).float())
    seen = noised_mean(
        gradients(replace(tiles, batch=chosen)).total,
        deviation=noise_multiplier * CLIP, expected=CANARIES, stream=stream, step=0,
    )  # fmt: skip
    score = np.linalg.lstsq(own.T, flat(seen) * CANARIES, rcond=None)[0]
    correct = int(((score > 0.5) == inside).sum())
    return audit_lower_bound(correct, CANARIES, CANARIES, DELTA)


def test_with_its_noise_no_run_shows_more_than_the_claim(gradients: PatientGradients) -> None:
    noise = noise_multiplier_for(EPSILON, DELTA, 1.0, 1)
    bounds = [lower_bound(gradients, noise, run) for run in range(3)]
    assert max(bounds) <= EPSILON


def test_with_the_noise_switched_off_the_audit_notices(gradients: PatientGradients) -> None:
    bound = lower_bound(gradients, 0.0, 0)
    assert bound == most_detectable(CANARIES, CANARIES, DELTA)
    assert bound > 2 * EPSILON
