"""The micro-batches of private steps: whole patients, as many as fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pixcell_share.training.batches import BatchMaker
from pixcell_share.training.private.gradients import PatientTiles
from pixcell_share.training.private.sampling import PatientOrder


@dataclass(frozen=True)
class Part:
    """One micro-batch of a step."""

    tiles: PatientTiles | None
    """None where nobody takes part in the step: it is a step of noise alone."""
    patients: int
    """Who take part in the whole step."""
    last: bool
    """Of its step."""


class StepMaker:
    """Makes the micro-batches of steps.

    Args:
        order: who takes part, with which tiles.
        maker: of batches, from the same order.
        micro_batch: tiles computed at once. A patient's are never divided, since the norm is of
            them all: one with more tiles makes a larger micro-batch alone.
    """

    def __init__(self, order: PatientOrder, maker: BatchMaker, micro_batch: int) -> None:
        self._order, self._maker, self._size = order, maker, micro_batch

    def parts(self, steps: range) -> Iterator[Part]:
        """The micro-batches of the steps, made as they are asked for."""
        for step in steps:
            groups = list(self._packed(step))
            patients = sum(map(len, groups))
            if not groups:
                yield Part(None, 0, last=True)
            for number, group in enumerate(groups):
                yield Part(self._tiles(group), patients, last=number == len(groups) - 1)

    def _packed(self, step: int) -> Iterator[list[NDArray[np.int64]]]:
        """Positions of whole patients, as many patients as fit into a micro-batch."""
        group: list[NDArray[np.int64]] = []
        for patient in self._order.participants(step):
            positions = self._order.positions(step, int(patient))
            if group and sum(map(len, group)) + len(positions) > self._size:
                yield group
                group = []
            group.append(positions)
        if group:
            yield group

    def _tiles(self, group: list[NDArray[np.int64]]) -> PatientTiles:
        owners = np.repeat(np.arange(len(group)), [len(positions) for positions in group])
        batch = self._maker.make(np.concatenate(group))
        return PatientTiles(batch, torch.from_numpy(owners), len(group))
