"""Put random weights on disk."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn


def save_weights(module: nn.Module, path: Path) -> Path:
    """Write a module's state dict in the format that the name of the file asks for."""
    state = {key: value.contiguous() for key, value in module.state_dict().items()}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path
