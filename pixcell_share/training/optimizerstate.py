"""The state of optimizers as named tensors, which any number of ranks can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_OPTIMIZER = "optimizer"


def optimizer_tensors(
    optimizers: Sequence[torch.optim.Optimizer], names: Mapping[Tensor, str]
) -> dict[str, Tensor]:
    """The state of optimizers as tensors; plain numbers become float64 tensors of no dimension."""
    found: dict[str, Tensor] = {}
    for at, optimizer in enumerate(optimizers):
        for parameter, state in optimizer.state.items():
            for key, value in state.items():
                where = f"{_OPTIMIZER}/{at}/{names[parameter]}/{key}"
                if isinstance(value, Tensor):
                    found[where] = value
                elif isinstance(value, int | float):
                    found[f"{where}#"] = torch.tensor(float(value), dtype=torch.float64)
    return found


def empty_optimizer_tensors(
    shapes: Mapping[str, tuple[torch.Size, torch.dtype]], parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """Room for the optimizer state of a checkpoint; what has a parameter's shape is split as it."""
    room: dict[str, Tensor] = {}
    for where, (size, dtype) in shapes.items():
        kind, _, rest = where.partition("/")
        if kind != _OPTIMIZER:
            continue
        parameter = parameters[rest.split("/")[1]]
        if size == parameter.shape:
            room[where] = torch.empty_like(parameter, dtype=dtype, requires_grad=False)
        else:
            room[where] = torch.empty(size, dtype=dtype)
    return room


def restore_optimizers(
    optimizers: Sequence[torch.optim.Optimizer],
    tensors: Mapping[str, Tensor],
    names: Mapping[Tensor, str],
) -> None:
    """Give optimizers the state that `optimizer_tensors` took."""
    for at, optimizer in enumerate(optimizers):
        flat = [p for group in optimizer.param_groups for p in group["params"]]
        state = {
            number: _state_of(tensors, f"{_OPTIMIZER}/{at}/{names[parameter]}/")
            for number, parameter in enumerate(flat)
        }
        whole = {number: kept for number, kept in state.items() if kept}
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": whole, "param_groups": groups})


def _state_of(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for where, value in tensors.items():
        if where.startswith(prefix):
            key = where.removeprefix(prefix)
            kept[key.removesuffix("#")] = _number(value) if key.endswith("#") else value
    return kept


def _number(value: Tensor) -> int | float:
    number = float(value)
    return int(number) if number.is_integer() else number
