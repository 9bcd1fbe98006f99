"""``--mix k``: conditions that are means over tiles of k different patients of one class.

Micro-aggregation in the manner of k-same (Newton, Sweeney and Malin, IEEE TKDE 2005) and k-SALSA
(Jeon et al., ECCV 2022), with the *patient* as the unit: tiles are put into **disjoint** groups,
each of k tiles of k different patients that lie near each other, as MDAV does (Domingo-Ferrer and
Torra, DMKD 2005). The mean of a group stands for all its members alike; no tile is in two groups.
So no synthetic tile descends from one patient alone. A patient may be in many groups, with
another tile in each: what a set of means tells of a patient is for the audit to measure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import AuditError, SettingsError
from pixcell_share.privacy._keyed import keyed_generator

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

BLOCK = 20_000
"""Tiles of a class among which neighbours are looked for. Larger classes are dealt out, each
patient evenly, into blocks of at most this many: time grows with the block, memory is one block."""

_PURPOSE = "pixcell-share mixing, version 1"


@dataclass(frozen=True, eq=False)
class Mixed:
    """Conditions that each stem from k patients."""

    conditions: Floats
    """(M, D), or (M, T, D) where the embeddings were grids; in random order."""
    members: Ints
    """(M, k) rows of the embeddings that were mixed, in random order."""
    labels: Ints
    """(M,) class of each."""
    left_out: int
    """Tiles that found no k - 1 others, and so condition nothing."""


def mix_embeddings(
    embeddings: Floats,
    patients: Ints,
    labels: Ints,
    k: int,
    *,
    secret: bytes,
    class_names: Sequence[str] | None = None,
) -> Mixed:
    """Means over groups of k tiles of k different patients of the same class.

    As many groups are made as the patients of a class allow (in each block of `BLOCK` tiles).

    Args:
        embeddings: (N, D), or (N, T, D) with T tokens; tokens are mixed place by place.
        patients: (N,) number of the patient of each tile.
        labels: (N,) number of its class.
        k: patients in a group, at least 2.
        secret: of the site: it chooses among equals, and the order. Same input, same bytes.
        class_names: for messages.

    Raises:
        SettingsError: k is below 2, a class has fewer than k patients, or the secret is too short.
        AuditError: an embedding is not finite.
        ValueError: lengths differ.
    """
    _check(embeddings, patients, labels, k, class_names)
    random = keyed_generator(secret, _PURPOSE, k)
    groups = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        groups += [rows[found] for found in _groups(embeddings, patients, rows, k, random)]
    members = random.permuted(random.permutation(np.concatenate(groups)), axis=1)
    conditions = np.empty((len(members), *embeddings.shape[1:]), np.float32)
    for row, of in enumerate(members):
        conditions[row] = _mean(embeddings[of])
    return Mixed(conditions, members, labels[members[:, 0]], len(embeddings) - members.size)


def most_groups(tiles: Ints, k: int) -> int:
    """Most disjoint groups of k tiles of k different patients.

    It is the largest g for which the sum of min(tiles, g) over patients is at least k g: no patient
    can be in more groups than there are, and taking those with most tiles left reaches it.

    Args:
        tiles: (P,) tiles of each patient.
        k: patients in a group.
    """
    low, high = 0, int(tiles.sum()) // k
    while low < high:
        middle = (low + high + 1) // 2
        enough = int(np.minimum(tiles, middle).sum()) >= k * middle
        low, high = (middle, high) if enough else (low, middle - 1)
    return low


def _groups(
    embeddings: Floats, patients: Ints, rows: Ints, k: int, random: np.random.Generator
) -> Iterator[Ints]:
    """Groups (G, k) of one class, block by block, as places in ``rows``."""
    _, own, counts = np.unique(patients[rows], return_inverse=True, return_counts=True)
    for places in _blocks(own, most_groups(counts, k), random):
        block = _Block(_whole(embeddings, rows[places]), own[places], k, random)
        yield places[np.array(list(block), dtype=np.int64).reshape(-1, k)]


def _whole(embeddings: Floats, rows: Ints) -> Floats:
    """(B, D): one vector per tile, in which tiles are near or not; the mean of its tokens."""
    found = np.empty((len(rows), embeddings.shape[-1]), np.float32)
    for place, row in enumerate(rows):
        found[place] = embeddings[row].reshape(-1, embeddings.shape[-1]).mean(axis=0)
    return found


def _blocks(own: Ints, groups: int, random: np.random.Generator) -> list[Ints]:
    """Places of the tiles of each block: each patient's tiles in random order, dealt out evenly.

    A patient can be in each group once, so tiles beyond the number of groups are left out first.
    """
    shuffled = random.permutation(len(own))
    shuffled = shuffled[np.argsort(random.permutation(own.max() + 1)[own[shuffled]], kind="stable")]
    patient = own[shuffled]
    start = np.r_[0, np.flatnonzero(np.diff(patient)) + 1]
    rank = np.arange(len(patient)) - np.repeat(start, np.diff(np.r_[start, len(patient)]))
    kept = shuffled[rank < groups]
    number = -(-len(kept) // BLOCK)
    return [kept[first::number] for first in range(number)]


class _Block:
    """Groups of near tiles, made one after the other.

    Args:
        values: (B, D), in which tiles are near or not.
        own: (B,) patient of each.
        k: tiles in a group.
        random: chooses the anchors.
    """

    def __init__(self, values: Floats, own: Ints, k: int, random: np.random.Generator) -> None:
        order = np.argsort(own, kind="stable")
        self._places = order
        self._values = values[order]
        self._norms = np.einsum("bd,bd->b", self._values, self._values) / 2
        _, self._own, self._left = np.unique(own[order], return_inverse=True, return_counts=True)
        self._k, self._random = k, random
        self._used = np.zeros(len(order), bool)

    def __iter__(self) -> Iterator[Ints]:
        for remaining in range(most_groups(self._left, self._k), 0, -1):
            members = self._next(remaining)
            self._used[members] = True
            self._left[self._own[members]] -= 1
            yield self._places[members]
            if self._used.mean() > 0.5:
                self._drop_used()

    def _next(self, remaining: int) -> Ints:
        """An anchor among the patients with most tiles left, and its nearest of k - 1 others.

        Patients with as many tiles left as there are groups to make come first: leave one out,
        and the last group lacks a patient.
        """
        most = (self._left[self._own] == self._left.max()) & ~self._used
        anchor = int(self._random.choice(np.flatnonzero(most)))
        # Half the squared distance, less what is the same for all.
        far = self._norms - self._values @ self._values[anchor]
        far[self._used] = np.inf
        start = np.flatnonzero(np.diff(self._own, prepend=-1))
        present = self._own[start]
        nearest = np.minimum.reduceat(far, start)
        nearest[present == self._own[anchor]] = np.inf
        forced = self._left[present] >= remaining
        chosen = np.lexsort((nearest, ~(forced & np.isfinite(nearest))))[: self._k - 1]
        return np.array([anchor, *(self._nearest_of(far, start, at) for at in chosen)])

    def _nearest_of(self, far: Floats, start: Ints, at: int) -> int:
        stop = start[at + 1] if at + 1 < len(start) else len(far)
        return int(start[at] + far[start[at] : stop].argmin())

    def _drop_used(self) -> None:
        """Forget the used tiles: half the work for those that remain."""
        left = ~self._used
        self._places, self._values = self._places[left], self._values[left]
        self._norms, self._own = self._norms[left], self._own[left]
        self._used = np.zeros(len(self._places), bool)


def _mean(embeddings: Floats) -> Floats:
    """Mean of k embeddings, at the mean of their norms, token by token.

    The mean of vectors that point apart is shorter than they are, and the generator was trained on
    whole embeddings: to it a short one is one that no tile has.
    """
    mean: Floats = embeddings.mean(axis=0, dtype=np.float64)
    norm = np.linalg.norm(embeddings.astype(np.float64), axis=-1).mean(axis=0)
    own = np.linalg.norm(mean, axis=-1)
    scaled: Floats = mean * np.divide(norm, own, out=np.ones_like(own), where=own > 0)[..., None]
    return scaled


def _check(
    embeddings: Floats, patients: Ints, labels: Ints, k: int, names: Sequence[str] | None
) -> None:
    if not len(embeddings) == len(patients) == len(labels):
        raise ValueError("embeddings, patients and labels differ in length")
    if k < 2:
        raise SettingsError(f"--mix {k} mixes nothing", "use --mix 2 or more, or leave it out")
    if not np.isfinite(embeddings).all():
        raise AuditError(
            "an embedding is not finite", "run again with --dtype fp32, or another encoder"
        )
    for label in np.unique(labels).tolist():
        count = len(np.unique(patients[labels == label]))
        if count < k:
            name = names[label] if names is not None else str(label)
            raise SettingsError(
                f"class {name!r} has {count} patients, and --mix {k} needs {k} in each class",
                "use a smaller k, add patients, or leave the class out of the slide table",
            )
