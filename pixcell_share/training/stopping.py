"""Stop when asked: SIGTERM (Slurm's preemption, ``kill``) and SIGUSR1 (``sbatch --signal``).

The signal only sets a flag. The ranks agree on it within a step, since the signal reaches each of
them at another moment, or only one of them; then they save and end with exit code 0.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """Listens for `SIGNALS` while its block runs.

    Attributes:
        asked: whether a signal has come to this process.
        agreed: whether one has come to any rank; set by the loop, on all ranks in the same step.
    """

    def __init__(self) -> None:
        self.asked = False
        self.agreed = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {each: signal.signal(each, self._hear) for each in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
