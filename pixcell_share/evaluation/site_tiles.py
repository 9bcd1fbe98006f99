"""A site's own labelled tiles, to judge an encoder by without showing a tile or an embedding.

What comes out are few figures with intervals, and none where too few patients stand behind them.
Tiles of one patient are never on two sides of a division.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import DataError
from pixcell_share.evaluation.embedded import PARTS, Embedded, EmbeddedDataset
from pixcell_share.evaluation.knn import balanced_accuracy_by_patient
from pixcell_share.evaluation.protocols import TASKS
from pixcell_share.privacy.intervals import Estimate

Singles = NDArray[np.float32]
Ints = NDArray[np.int64]

_SHARES = (0.5, 0.2)
"""Of each class's patients: to learn from, and to choose by; the others are tested."""
_DIGITS = 3
"""Of a figure that leaves the site: the interval is wider by far."""


@dataclass(frozen=True)
class CountFloor:
    """How much must stand behind a figure that leaves the site."""

    patients_per_class: int = 5
    """Of each class, over all parts; k-anonymity's usual least k."""
    test_tiles: int = 50
    """In the test part."""

    def missed(self, tiles: SiteTiles) -> bool:
        """Whether there are fewer."""
        found = [len(np.unique(tiles.patients[tiles.labels == c])) for c in range(tiles.classes)]
        # Three parts need a patient each.
        return min(found) < max(self.patients_per_class, len(PARTS)) or len(found) < 2


@dataclass(frozen=True, eq=False)
class SiteTiles:
    """Embeddings of labelled tiles of known patients.

    Raises:
        DataError: not one label and one patient for each embedding, or a class without any tile.
    """

    embeddings: Singles
    """(N, D)"""
    labels: Ints
    """(N,) classes, numbers from 0."""
    patients: Ints
    """(N,) number of each tile's patient."""
    classes: int
    """How many classes there are."""

    def __post_init__(self) -> None:
        count = self.embeddings.shape[:1]
        if self.labels.shape != count or self.patients.shape != count:
            raise DataError("not one label and one patient for each tile", "give (N,) of both")
        if set(np.unique(self.labels)) != set(range(self.classes)):
            raise DataError("a class has no tile, or is unknown", "name the classes that there are")

    def divided(self, seed: int) -> EmbeddedDataset:
        """Training, validation and test part: patients of each class by `_SHARES`.

        A patient with several classes goes with the class of most of its tiles. The same seed
        gives the same parts.

        Args:
            seed: the site's own, so that nobody else knows who is in which part.

        Raises:
            DataError: a class has fewer than three patients.
        """
        train, val, test = (self._part(rows) for rows in self._rows(seed).values())
        return EmbeddedDataset("site", train, val, test)

    def training_rows(self, seed: int) -> Ints:
        """Rows of the training part."""
        return self._rows(seed)["train"]

    def test_rows(self, seed: int) -> Ints:
        """Rows of the test part."""
        return self._rows(seed)["test"]

    def _rows(self, seed: int) -> dict[str, Ints]:
        rng, chosen = np.random.default_rng(seed), dict.fromkeys(PARTS, np.empty(0, np.int64))
        names, codes = np.unique(self.patients, return_inverse=True)
        table = np.zeros((len(names), self.classes), np.int64)
        np.add.at(table, (codes, self.labels), 1)
        home = table.argmax(1)
        for label in range(self.classes):
            order = rng.permutation(np.flatnonzero(home == label))
            if len(order) < len(PARTS):
                raise DataError("a class has fewer than three patients", "leave the class out")
            first = max(1, round(_SHARES[0] * len(order)))
            second = first + max(1, round(_SHARES[1] * len(order)))
            second = min(second, len(order) - 1)
            first = min(first, second - 1)
            for part, taken in zip(PARTS, np.split(order, [first, second]), strict=True):
                chosen[part] = np.concatenate([chosen[part], taken])
        return {part: np.flatnonzero(np.isin(codes, taken)) for part, taken in chosen.items()}

    def _part(self, rows: Ints) -> Embedded:
        return Embedded(np.ascontiguousarray(self.embeddings[rows]), self.labels[rows])


@dataclass(frozen=True)
class SiteFigures:
    """What may leave a site about an encoder."""

    balanced_accuracy: Mapping[str, Estimate]
    """For each protocol; the interval is a bootstrap over patients."""
    classes: int
    chance: float
    """Balanced accuracy of guessing."""
    patients: int
    """Of the test part, rounded down to fives."""


def judge_encoder(
    tiles: SiteTiles, tasks: tuple[str, ...], floor: CountFloor, *, seed: int
) -> SiteFigures | None:
    """k-NN, linear probe or both, on a division by patient.

    Args:
        tiles: of the site, embedded by the encoder in question.
        tasks: names of `TASKS` that give one figure: ``knn``, ``linear_probing``.
        floor: below which nothing is said.
        seed: the site's own; see `SiteTiles.divided`.

    Returns:
        The figures, rounded; None where the floor is missed.

    Raises:
        DataError: embeddings that cannot be used.
    """
    if floor.missed(tiles):
        return None
    dataset, patients = tiles.divided(seed), tiles.patients[tiles.test_rows(seed)]
    if len(dataset.test) < floor.test_tiles:
        return None
    found = {}
    for task in tasks:
        predicted = TASKS[task](dataset).predicted[""]
        figure = balanced_accuracy_by_patient(dataset.test.labels, predicted, patients, seed=seed)
        found[task] = rounded(figure)
    return SiteFigures(
        balanced_accuracy=found,
        classes=tiles.classes,
        chance=round(1 / tiles.classes, _DIGITS),
        patients=len(np.unique(patients)) // 5 * 5,
    )


def rounded(figure: Estimate) -> Estimate:
    """With as many digits as leave a site."""
    return Estimate(*(round(float(x), _DIGITS) for x in (figure.value, figure.low, figure.high)))
