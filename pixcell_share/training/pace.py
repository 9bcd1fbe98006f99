"""How fast a run goes: images per second, MFU, waiting for data, memory."""

from __future__ import annotations

import resource
import time
from typing import Any

import torch

from pixcell_share.training.distributed import Ranks


class Pace:
    """Measures the steps since `start`.

    Args:
        global_batch: images of a step.
        ranks: of the run.
        flops_per_image: floating-point operations of training on one image; None: no MFU.
        peak: floating-point operations per second of one device; None: no MFU.
    """

    def __init__(
        self,
        global_batch: int,
        ranks: Ranks,
        flops_per_image: float | None = None,
        peak: float | None = None,
    ) -> None:
        self._images = global_batch
        self._ranks = ranks
        self._flops, self._peak = flops_per_image, peak
        self.start()

    def start(self) -> None:
        """Begin to measure."""
        self._began = time.monotonic()
        self._steps = 0
        self._step_waited = 0.0
        self._waited = 0.0

    def wait(self, seconds: float) -> None:
        """Count time of this rank's waiting for data."""
        self._step_waited += seconds

    def take_waited(self) -> float:
        """Seconds that this rank waited in the step."""
        waited, self._step_waited = self._step_waited, 0.0
        return waited

    def step(self, waited: float) -> None:
        """Count a step, in which the ranks waited that many seconds on average."""
        self._steps += 1
        self._waited += waited

    @property
    def seconds(self) -> float:
        """Time since `start`."""
        return max(time.monotonic() - self._began, 1e-9)

    @property
    def images_per_second(self) -> float:
        """Over all ranks."""
        return self._steps * self._images / self.seconds

    @property
    def mfu(self) -> float | None:
        """Share of the devices' peak that the model's own operations use."""
        if self._flops is None or self._peak is None:
            return None
        return self.images_per_second * self._flops / (self._peak * self._ranks.world)

    def figures(self) -> dict[str, Any]:
        """For the log."""
        return {
            "images_per_second": self.images_per_second,
            "mfu": self.mfu,
            "waiting": self._waited / self.seconds,
            "memory_gib": peak_memory(self._ranks.device) / 2**30,
        }


def peak_memory(device: torch.device) -> int:
    """Most bytes that this process held so far: on the GPU, or in main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
