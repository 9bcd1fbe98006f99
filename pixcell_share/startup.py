"""What every process of ours does first."""

from __future__ import annotations

import gc

_NEW_OBJECTS, _YOUNG, _MIDDLE = 50_000, 10, 10


def start() -> None:
    """Let Python look for cycles of objects less often.

    PyTorch and diffusers leave 880,000 objects as they are imported, through which Python walks
    again and again while they become more: an eighth of the seconds before work begins.
    """
    gc.set_threshold(_NEW_OBJECTS, _YOUNG, _MIDDLE)
