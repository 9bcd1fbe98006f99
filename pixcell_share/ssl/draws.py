"""What is random in training, as a pure function of seed and position.

As the trainer of PixCell (`pixcell_share.training.batches`): Philox (Salmon et al., SC 2011) with
the key (seed, number) and one stream for each purpose. Nothing depends on the rank, the batch
that a sample comes in, or a restart.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """Highest word of Philox's counter: one stream for each purpose of the same key."""

    ORDER = 0
    SOURCES = 1
    CROPS = 2
    MASKS = 3
    DEPTH = 4
    SLOTS = 5


def generator(seed: int, number: int, purpose: Purpose, part: int = 0) -> np.random.Generator:
    """The stream of ``number`` (a position, a step, an epoch) for a purpose.

    Args:
        seed: of the run, from 0 to 2**63 - 1.
        number: what it is for.
        purpose: what is drawn.
        part: of ``number``, such as a source.
    """
    key = np.array([seed, number], dtype=np.uint64)
    counter = np.array([0, 0, part, purpose], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
