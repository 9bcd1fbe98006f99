"""Devices and dtypes: the names that a person may give, and the limits that they meet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

import torch
from torch import Tensor

from pixcell_share.errors import PixcellError, SettingsError

DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
)
"""``--dtype`` by name."""


def resolve_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """A dtype by its name or as itself.

    Raises:
        SettingsError: not one of `DTYPES`.
    """
    found = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if found not in DTYPES.values():
        raise SettingsError(f"unknown dtype {dtype}", f"use one of {', '.join(DTYPES)}")
    assert found is not None
    return found


def resolve_device(device: str | torch.device) -> torch.device:
    """A device that this machine has; ``auto`` is the GPU, or the CPU where there is none.

    Raises:
        SettingsError: no such device here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(
            f"the device {device} is not on this machine", "use cpu, or cuda with an NVIDIA GPU"
        ) from error
    return found


def copied(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on ``device``, without waiting there for the work that was begun before."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@contextmanager
def out_of_memory(what: str) -> Iterator[None]:
    """Turn the GPU's out-of-memory error into one that says what to do."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise PixcellError(
            f"{what} does not fit into the GPU's memory", "use a smaller --batch-size"
        ) from error
