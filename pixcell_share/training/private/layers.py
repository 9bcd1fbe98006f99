"""Inputs and output gradients of the linear layers under training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pixcell_share.errors import SettingsError


@dataclass(frozen=True)
class Pass:
    """What one layer did in one forward pass."""

    inputs: Tensor
    """(B, ..., I)."""
    outputs: Tensor
    """(B, ..., O), part of the graph."""


class LinearLayers:
    """The linear layers of a model whose weights take a gradient.

    Args:
        model: everything that takes a gradient has to be the weight of an `nn.Linear`.

    Raises:
        SettingsError: something else takes a gradient, so that no norm would count it.
    """

    def __init__(self, model: nn.Module) -> None:
        self.layers = {
            f"{name}.weight": layer
            for name, layer in model.named_modules()
            if isinstance(layer, nn.Linear) and layer.weight.requires_grad
        }
        trained = {name for name, value in model.named_parameters() if value.requires_grad}
        if trained != set(self.layers):
            other = sorted(trained ^ set(self.layers))
            raise SettingsError(
                f"{other[0] if other else 'nothing'} takes a gradient and is no linear layer's own "
                "weight: patients could not be clipped",
                "train a LoRA, whose matrices are linear layers",
            )

    @contextmanager
    def recording(self) -> Iterator[dict[str, list[Pass]]]:
        """Record every pass through the layers while the block runs."""
        passes: dict[str, list[Pass]] = {name: [] for name in self.layers}

        def hook(name: str) -> Any:
            def keep(_: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
                passes[name].append(Pass(inputs[0].detach(), outputs))

            return keep

        handles = [layer.register_forward_hook(hook(name)) for name, layer in self.layers.items()]
        try:
            yield passes
        finally:
            for handle in handles:
                handle.remove()


def output_gradients(
    loss: Tensor, passes: dict[str, list[Pass]]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Input and output gradient of each layer.

    The weights' own gradients, unclipped sums over patients, are never formed.

    Raises:
        ValueError: a layer was passed more or less than once; its norm would be another.
    """
    counts = {len(found) for found in passes.values()}
    if counts != {1}:
        raise ValueError(f"each trained layer has to run once in a forward pass, not {counts}")
    found = torch.autograd.grad(loss, [only.outputs for (only,) in passes.values()])
    return {
        name: (only.inputs, gradient)
        for (name, (only,)), gradient in zip(passes.items(), found, strict=True)
    }
