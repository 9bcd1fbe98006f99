"""Who takes part in a step, and with which tiles.

A pure function of the secret stream and the step, so that nothing has to be remembered and a
resumed run sees the same data. The participants must stay secret: "amplification by sampling" is
what makes the noise so small, and it holds only against who cannot know whether a patient took
part. So they are drawn from the site's secret, never from the public seed.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pixcell_share.training.latents import Address, Split
from pixcell_share.training.private.patients import Patients
from pixcell_share.training.private.stream import SecretStream


class PatientOrder:
    """Poisson sampling of patients, and of at most ``cap`` tiles of each.

    A *position* names one draw of one tile: step, patient and place among the patient's tiles.

    Args:
        patients: of the stores.
        rate: probability that a patient takes part in a step.
        cap: most tiles of a patient in a step.
        stream: of the training.
    """

    split: Split = "train"

    def __init__(self, patients: Patients, rate: float, cap: int, stream: SecretStream) -> None:
        self._patients, self._rate, self._cap, self._stream = patients, rate, cap, stream
        self._tiles = lru_cache(maxsize=4096)(self._draw)

    def participants(self, step: int) -> NDArray[np.int64]:
        """Numbers of the patients who take part in a step, in order; there may be none."""
        drawn = self._stream.uniform(len(self._patients), "participants", step)
        return np.flatnonzero(drawn < self._rate).astype(np.int64)

    def positions(self, step: int, patient: int) -> NDArray[np.int64]:
        """Positions of the patient's tiles in a step: at least one, at most the cap."""
        first = (step * len(self._patients) + patient) * self._cap
        count = min(self._cap, len(self._patients.rows[patient]))
        return np.arange(first, first + count, dtype=np.int64)

    def locate(self, position: int) -> Address:
        """The region at a position."""
        member, place = divmod(position, self._cap)
        step, patient = divmod(member, len(self._patients))
        return self._patients.rows[patient][int(self._tiles(step, patient)[place])]

    def _draw(self, step: int, patient: int) -> NDArray[np.int64]:
        """Different regions of the patient, in random order."""
        rows = len(self._patients.rows[patient])
        keys = self._stream.uniform(rows, "tiles", step, patient)
        return np.argsort(keys, kind="stable")[: self._cap]
