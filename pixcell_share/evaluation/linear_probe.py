"""Thunder's linear probe: one linear classifier for each learning rate and weight decay, at once.

Every classifier sees the same batches. Their weights are drawn, and the batches shuffled, by
torch's generator in the order in which Thunder does it (thunder-bench 0.2.2, seed 0), so that both
train on the same numbers; only the products are made for all classifiers in one.

One thing differs on purpose: on a CPU Thunder's checkpoint of the best epoch shares its memory with
the classifier, which trains on, so that the last epoch is tested. Here the best one is, as in
Thunder on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pixcell_share.evaluation.embedded import Embedded, EmbeddedDataset, Ints
from pixcell_share.evaluation.metrics import macro_f1

_ROWS = 16384
"""Tiles that are classified at a time."""


@dataclass(frozen=True)
class LinearProbeSettings:
    """The defaults are Thunder's."""

    lrs: tuple[float, ...] = (1e-3, 1e-4, 1e-5)
    """Learning rates of Adam."""
    weight_decays: tuple[float, ...] = (0.0, 1e-3, 1e-4)
    """Weight decays; each goes with each learning rate."""
    epochs: int = 200
    batch_size: int = 64
    seed: int = 0


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """The classifier that was best on the validation part."""

    weight: Tensor
    """(C, D)"""
    bias: Tensor
    """(C,)"""
    lr: float
    weight_decay: float
    epoch: int
    """Counted from 0."""
    f1: float
    """Macro-F1 on the validation part."""

    def predict(self, embeddings: NDArray[np.float32]) -> Ints:
        """(M,) classes of the embeddings (M, D)."""
        rows = torch.from_numpy(embeddings)
        named: Ints = _classes(rows, self.weight[None], self.bias[None])[0]
        return named


def train_probe(
    dataset: EmbeddedDataset,
    settings: LinearProbeSettings = LinearProbeSettings(),
) -> LinearProbe:
    """Train all classifiers and keep the best (classifier, epoch) on the validation part.

    Of equal ones the first: lower epoch, then higher in the list of settings.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        heads = _Heads(dataset.train.embeddings.shape[1], dataset.classes, settings)
        best: LinearProbe | None = None
        for epoch in range(settings.epochs):
            for rows, labels in _batches(dataset.train, settings.batch_size):
                heads.step(rows, labels)
            _pass_over_seed()
            scores = heads.validate(dataset.val)
            first = int(np.argmax(scores))
            if best is None or scores[first] > best.f1:
                best = heads.copy(first, epoch, scores[first])
    assert best is not None
    return best


class _Heads:
    """H linear classifiers with one optimizer."""

    def __init__(self, dim: int, classes: int, settings: LinearProbeSettings) -> None:
        self._grid = list(product(settings.lrs, settings.weight_decays))
        self._heads = [nn.Linear(dim, classes) for _ in self._grid]
        groups = [
            {"params": list(head.parameters()), "lr": lr, "weight_decay": decay}
            for head, (lr, decay) in zip(self._heads, self._grid, strict=True)
        ]
        self._adam = torch.optim.Adam(groups)

    def step(self, rows: Tensor, labels: Tensor) -> None:
        """One step of every classifier on a batch (B, D) with classes (B,)."""
        self._adam.zero_grad()
        weights = torch.cat([head.weight for head in self._heads])
        biases = torch.cat([head.bias for head in self._heads])
        logits = F.linear(rows, weights, biases).view(len(rows), len(self._heads), -1)
        targets = labels[:, None].expand(-1, len(self._heads))
        # The sum of the heads' means: no head has a part in another one's gradient.
        loss = F.cross_entropy(logits.transpose(1, 2), targets) * len(self._heads)
        loss.backward()  # type: ignore[no-untyped-call]
        self._adam.step()

    @torch.no_grad()
    def validate(self, part: Embedded) -> list[float]:
        """(H,) macro-F1 of each classifier."""
        weights = torch.stack([head.weight for head in self._heads])
        biases = torch.stack([head.bias for head in self._heads])
        named = _classes(torch.from_numpy(part.embeddings), weights, biases)
        return [macro_f1(part.labels, each) for each in named]

    def copy(self, number: int, epoch: int, f1: float) -> LinearProbe:
        """One classifier as it is now."""
        head, (lr, decay) = self._heads[number], self._grid[number]
        weight, bias = head.weight.detach().clone(), head.bias.detach().clone()
        return LinearProbe(weight, bias, lr, decay, epoch, f1)


def _batches(part: Embedded, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled batches; they take two numbers of torch's generator, as a loader in Thunder does."""
    _pass_over_seed()
    generator = torch.Generator()
    generator.manual_seed(_pass_over_seed())
    embeddings, labels = torch.from_numpy(part.embeddings), torch.from_numpy(part.labels)
    order = torch.randperm(len(part), generator=generator)
    for rows in torch.split(order, size):
        yield embeddings[rows], labels[rows]


def _pass_over_seed() -> int:
    """The seed that a loader of torch draws for its workers, or a sampler for its order."""
    return int(torch.empty((), dtype=torch.int64).random_().item())


def _classes(rows: Tensor, weights: Tensor, biases: Tensor) -> Ints:
    """(H, M) most likely class of rows (M, D) by weights (H, C, D) and biases (H, C)."""
    heads, classes = biases.shape
    found = np.empty((heads, len(rows)), np.int64)
    for start in range(0, len(rows), _ROWS):
        logits = F.linear(rows[start : start + _ROWS], weights.flatten(0, 1), biases.flatten())
        # Thunder compares probabilities: equal ones may come from logits that differ.
        likely = logits.view(-1, heads, classes).softmax(dim=2).argmax(dim=2)
        found[:, start : start + _ROWS] = likely.T.numpy()
    return found
