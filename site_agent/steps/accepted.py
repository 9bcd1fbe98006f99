"""The tiles that may be released."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from site_agent.steps.checking import CheckedBlock
from site_agent.steps.generation import Block
from site_agent.steps.real_tiles import RealTiles


@dataclass(frozen=True)
class Accepted:
    """The tiles that may be released, as positions in checked blocks."""

    checked: Sequence[tuple[Block, CheckedBlock]]
    block: NDArray[np.int64]
    """(N,) number of the block of each tile."""
    position: NDArray[np.int64]
    """(N,) its place in the block."""

    @classmethod
    def of(cls, checked: Sequence[tuple[Block, CheckedBlock]]) -> Accepted:
        """Those that the checks accepted, in the order of the run."""
        positions = [np.flatnonzero(check.accepted) for _, check in checked]
        numbers = [np.full(len(found), number) for number, found in enumerate(positions)]
        empty = [np.empty(0, np.int64)]
        return cls(
            checked,
            np.concatenate(numbers or empty).astype(np.int64),
            np.concatenate(positions or empty).astype(np.int64),
        )

    def __len__(self) -> int:
        return len(self.block)

    def members(self, real: RealTiles) -> NDArray[np.int64] | None:
        """(N, k) numbers of the real tiles behind each; None where no tile alone is behind one."""
        found = []
        for number, (block, _) in enumerate(self.checked):
            positions = self.position[self.block == number]
            start = real.index(block.name, 0) if block.source.slide else 0
            behind = block.source.members(block.conditions[positions], start)
            if behind is None:
                return None
            found.append(behind)
        return np.concatenate(found) if found else None
