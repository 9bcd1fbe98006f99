"""Read a state dict without running code from it, and fill a model with exactly that."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pixcell_share.errors import WeightsMismatchError

__all__ = ["build_unfilled", "fill", "read_state_dict"]

_REMEDY = "check that --weights names the files of this very model, completely downloaded"
_SHOWN = 3


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors``, ``.bin`` or ``.pth`` file, on the CPU.

    Pickled files are read with ``weights_only=True``: they cannot run code.

    Raises:
        WeightsMismatchError: the file is damaged, or is not a flat state dict.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise WeightsMismatchError(f"{path} cannot be read as weights: {error}", _REMEDY) from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsMismatchError(f"{path} is not a flat dictionary of tensors", _REMEDY)
    return state


def build_unfilled(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a model without drawing its random weights: for UNI2-h that saves ten seconds.

    Every tensor of the state dict is unset until `fill` has run. A model with tensors outside its
    state dict is built in the ordinary way, because those would stay unset.
    """
    with torch.device("meta"):
        module = build()
    kept = module.state_dict().keys()
    if any(name not in kept for name, _ in module.named_buffers()):
        return build()
    return module.to_empty(device="cpu")


def fill(module: nn.Module, path: Path) -> None:
    """Load the weights of ``path`` into ``module``, strictly.

    Raises:
        WeightsMismatchError: keys are missing or unexpected, or shapes differ; the first are named.
    """
    state = read_state_dict(path)
    wanted = module.state_dict()
    complaints = [
        _listed("missing", [key for key in wanted if key not in state]),
        _listed("unexpected", [key for key in state if key not in wanted]),
        _listed("of another shape", _other_shapes(wanted, state)),
    ]
    if any(complaints):
        details = "; ".join(filter(None, complaints))
        raise WeightsMismatchError(f"{path} holds another model: {details}", _REMEDY)
    module.load_state_dict(state, strict=True, assign=False)


def _other_shapes(wanted: dict[str, Tensor], state: dict[str, Tensor]) -> list[str]:
    return [
        f"{key} {tuple(state[key].shape)} in place of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]


def _listed(what: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{what}: {', '.join(names[:_SHOWN])}{more}"


def _is_zip(path: Path) -> bool:
    # Only the zip form (PyTorch 1.6 and later) can be mapped; UNI2-h then needs half the memory.
    with path.open("rb") as stream:
        return stream.read(2) == b"PK"
