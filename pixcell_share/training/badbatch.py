"""The identity of a batch whose loss was not finite."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixcell_share.errors import LossError
from pixcell_share.files import atomic_write_text
from pixcell_share.training.batch import Batch
from pixcell_share.training.batches import BatchMaker
from pixcell_share.training.distributed import Ranks

FILE = "bad-batch.json"


class BadBatch:
    """Remembers the samples of a step, in case that its loss is not finite.

    Args:
        folder: of the run.
        maker: knows where a position's sample comes from.
        ranks: all of them report together.
    """

    def __init__(self, folder: Path, maker: BatchMaker, ranks: Ranks) -> None:
        self._folder = folder
        self._maker = maker
        self._ranks = ranks
        self._seen: list[tuple[Tensor, Tensor]] = []

    def remember(self, batch: Batch, per_sample: Tensor) -> None:
        """Keep positions and losses of a micro-batch until the step is over."""
        self._seen.append((batch.positions, per_sample.detach()))

    def report(self, step: int, what: str) -> LossError:
        """Write ``bad-batch.json``, and the error to raise (on all ranks alike).

        Args:
            step: counted from 0.
            what: is wrong.
        """
        mine = [pair for positions, losses in self._seen for pair in _pairs(positions, losses)]
        everyone = [pair for pairs in self._ranks.gather(mine) for pair in pairs]
        culprits = [position for position, finite in everyone if not finite]
        named = culprits or [position for position, _ in everyone]
        samples = [self._maker.describe(position) for position in named]
        found = {
            "step": step + 1,
            "reason": what,
            "positions": [position for position, _ in everyone],
            "not_finite": culprits,
            "samples": samples,
        }
        if self._ranks.first:
            path = self._folder / FILE
            atomic_write_text(path, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
        self._ranks.wait()
        return LossError(
            f"step {step + 1}: {what}; first sample: {_sentence(samples[0])}",
            f"look at {self._folder / FILE}: with bad data use --on-bad-data skip, with a rate "
            "too high a smaller --rate in a new folder; the last checkpoint is from before",
        )


def _pairs(positions: Tensor, losses: Tensor) -> list[tuple[int, bool]]:
    finite = torch.isfinite(losses)
    return list(zip(positions.tolist(), finite.tolist(), strict=True))


def _sentence(sample: dict[str, Any]) -> str:
    known = ("position", "store", "shard", "row", "slide")
    return ", ".join(f"{name} {sample[name]}" for name in known if name in sample)
