"""Peak FLOP/s of devices, and the share of it that a training reaches (MFU).

Dense peaks (without sparsity), in TFLOP/s, from NVIDIA's data sheets: A100 (2021), H100 (2023),
H200 (2024), HGX B200 (2025), L40S (2023), L40 (2022), L4 (2023), A40 (2021), A10 (2021), RTX A6000
(2020), RTX 6000 Ada (2023), V100 (2020), and the architecture papers of Ampere GA102 (2021) and
Ada (2023) for RTX 3090 and 4090, with sums in float32. Where a sheet gives the figure with
sparsity alone, this is half of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

import torch


def _peaks(half: float, tf32: float | None, single: float, bf16: bool = True) -> dict[str, float]:
    found = {"fp16": half, "fp32": single}
    found |= {"bf16": half} if bf16 else {}
    found |= {"tf32": tf32} if tf32 is not None else {}
    return {name: value * 1e12 for name, value in found.items()}


PEAKS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "B200": _peaks(2250, 1125, 75),
        "GH200": _peaks(989, 494, 67),
        "H200 NVL": _peaks(835, 417, 60),
        "H200": _peaks(989, 494, 67),
        "H100 NVL": _peaks(835, 417, 60),
        "H100 PCIe": _peaks(756, 378, 51),
        "H100": _peaks(989, 494, 67),
        "A100": _peaks(312, 156, 19.5),
        "L40S": _peaks(362, 183, 91.6),
        "L40": _peaks(181, 90.5, 90.5),
        "L4": _peaks(121, 60, 30.3),
        "A40": _peaks(149.7, 74.8, 37.4),
        "A10": _peaks(125, 62.5, 31.2),
        "RTX A6000": _peaks(154.8, 77.4, 38.7),
        "RTX 6000 Ada": _peaks(364.2, 182.1, 91.1),
        "RTX 4090": _peaks(165.2, 82.6, 82.6),
        "RTX 3090": _peaks(71, 35.6, 35.6),
        "V100": _peaks(125, None, 15.7, bf16=False),
    }
)
"""FLOP/s by a part of the name that CUDA gives; the first that fits counts."""
_DTYPES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


def peak_flops(device_name: str, dtype: str | torch.dtype) -> float | None:
    """Dense peak of one device; None for what is not in `PEAKS`, a CPU or a slice of a GPU.

    Args:
        device_name: such as ``torch.cuda.get_device_name()`` gives, or a key of `PEAKS`.
        dtype: of the matrix products: ``bf16``, ``fp16``, ``tf32`` or ``fp32``.
    """
    if " MIG " in device_name:
        return None
    name = _DTYPES.get(dtype, "") if isinstance(dtype, torch.dtype) else dtype
    for part, peaks in PEAKS.items():
        if re.search(rf"\b{part}\b", device_name, re.IGNORECASE):
            return peaks.get(name)
    return None


def device_name(device: torch.device | str) -> str:
    """The name that `peak_flops` knows a device by; ``cpu`` for a CPU."""
    found = torch.device(device)
    return torch.cuda.get_device_name(found) if found.type == "cuda" else found.type


def mfu(
    flops_per_image: float,
    images_per_s: float,
    device: torch.device | str,
    dtype: str | torch.dtype,
    *,
    peak: float | None = None,
) -> float | None:
    """Model FLOPs utilisation: the share of the peak, or None where no peak is known.

    Args:
        flops_per_image: of what is measured, from `pixcell_share.training.flops`.
        images_per_s: of one device.
        device: that device.
        dtype: of its matrix products.
        peak: a measured one, in place of the data sheet's.
    """
    top = peak if peak is not None else peak_flops(device_name(device), dtype)
    return None if top is None else flops_per_image * images_per_s / top
