"""A linear probe that several sites train together, one weight matrix for all.

Each round a site starts from the common weights, takes some steps of Adam on its own training
part, and gives back the weights; the hub averages them, weighed by patients (FedAvg:
McMahan et al., AISTATS 2017, arXiv:1602.05629). Embeddings are scaled to length sqrt(D), so that
all sites have the same scale without telling each other a mean.

**Weights tell of the data**: after one step from zero they are the class means of the embeddings.
Nothing here is differentially private. So a site takes part only with enough patients of each
class, every patient counts the same however many tiles it has, and a policy allows it by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from pixcell_share.errors import SettingsError
from pixcell_share.evaluation.knn import balanced_accuracy_by_patient
from pixcell_share.evaluation.site_tiles import CountFloor, SiteTiles, rounded
from pixcell_share.privacy.intervals import Estimate

Singles = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ProbeSettings:
    """The same at every site.

    Raises:
        SettingsError: a number is out of range.
    """

    steps: int = 20
    """Of a site in a round, each over all of its training tiles."""
    rate: float = 0.01
    """Learning rate of Adam, which begins anew in each round."""
    weight_decay: float = 1e-3
    """Of the weights, not of the bias."""

    def __post_init__(self) -> None:
        if not (1 <= self.steps <= 1000 and 0 < self.rate <= 1 and 0 <= self.weight_decay <= 1):
            raise SettingsError(
                "steps, rate or weight decay of the probe are out of range",
                "use 1 to 1000 steps, a rate up to 1 and a decay up to 1",
            )


@dataclass(frozen=True, eq=False)
class Probe:
    """One linear classifier."""

    weight: Singles
    """(C, D)"""
    bias: Singles
    """(C,)"""

    @classmethod
    def start(cls, classes: int, dim: int) -> Probe:
        """All zero: nothing in it is of anybody."""
        return cls(np.zeros((classes, dim), np.float32), np.zeros(classes, np.float32))

    def predict(self, embeddings: Singles) -> Ints:
        """(M,) classes of the embeddings (M, D)."""
        named: Ints = (scaled(embeddings) @ self.weight.T + self.bias).argmax(1)
        return named


@dataclass(frozen=True)
class ProbeStep:
    """What a site gives back after a round."""

    probe: Probe
    patients: int
    """Of the training part: the weight of this site in the mean."""
    loss: float
    """Mean cross-entropy over the patients of the training part, before the round."""


def train_step(
    tiles: SiteTiles, probe: Probe, settings: ProbeSettings, floor: CountFloor, *, seed: int
) -> ProbeStep | None:
    """One round at a site; None where too few patients are behind it.

    Args:
        tiles: embedded by the common encoder.
        probe: the common weights.
        settings: of the round.
        floor: below which a site does not take part.
        seed: of the site's division, the same in every round.

    Raises:
        SettingsError: the probe has another shape than the tiles need.
    """
    if probe.weight.shape != (tiles.classes, tiles.embeddings.shape[1]):
        raise SettingsError("the probe is of other classes or another encoder", "begin a new round")
    if floor.missed(tiles):
        return None
    rows = tiles.training_rows(seed)
    inputs = torch.from_numpy(scaled(tiles.embeddings[rows]))
    labels = torch.from_numpy(tiles.labels[rows])
    weights = torch.from_numpy(_patient_weights(tiles.patients[rows]))
    weight = torch.from_numpy(probe.weight.copy()).requires_grad_()
    bias = torch.from_numpy(probe.bias.copy()).requires_grad_()
    decayed = {"params": [weight], "weight_decay": settings.weight_decay}
    optimizer = torch.optim.AdamW(
        [decayed, {"params": [bias], "weight_decay": 0.0}], lr=settings.rate
    )
    first = 0.0
    for step in range(settings.steps):
        optimizer.zero_grad()
        each = F.cross_entropy(F.linear(inputs, weight, bias), labels, reduction="none")
        loss = (each * weights).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        first = loss.item() if step == 0 else first
    moved = Probe(weight.detach().numpy(), bias.detach().numpy())
    return ProbeStep(moved, len(np.unique(tiles.patients[rows])), round(first, 3))


def judge_probe(tiles: SiteTiles, probe: Probe, floor: CountFloor, *, seed: int) -> Estimate | None:
    """Balanced accuracy of a common probe on the site's test part; None below the floor."""
    if floor.missed(tiles):
        return None
    rows = tiles.test_rows(seed)
    if len(rows) < floor.test_tiles:
        return None
    predicted = probe.predict(tiles.embeddings[rows])
    return rounded(
        balanced_accuracy_by_patient(tiles.labels[rows], predicted, tiles.patients[rows], seed=seed)
    )


def scaled(embeddings: Singles) -> Singles:
    """Embeddings (N, D), each of length sqrt(D)."""
    length = np.linalg.norm(embeddings, axis=1, keepdims=True)
    found: Singles = (embeddings / length * np.sqrt(embeddings.shape[1])).astype(np.float32)
    return found


def _patient_weights(patients: Ints) -> Singles:
    """(N,) weight of each tile: patients weigh the same, and all weigh 1 together."""
    names, codes, counts = np.unique(patients, return_inverse=True, return_counts=True)
    return (1 / (len(names) * counts[codes])).astype(np.float32)
