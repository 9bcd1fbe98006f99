"""Write a safetensors file in one step, readable for whom any new file is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from pixcell_share.files import atomic_path


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write ``tensors`` to ``path``.

    safetensors leaves its files to their owner alone; weights on a cluster are shared.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    with atomic_path(path) as part:
        part.touch()
        usual = part.stat().st_mode
        save_file(dict(tensors), part, metadata=dict(metadata))
        part.chmod(usual)
