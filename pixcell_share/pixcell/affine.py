"""Linear layers as plain tensors, with adapters merged, and their fastest products."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Affine(NamedTuple):
    """``x`` to ``x @ weight.T + bias``."""

    weight: Tensor
    """(out, in)."""
    bias: Tensor | None
    """(out,), or None."""


def _onednn_dtypes() -> frozenset[torch.dtype]:
    """What oneDNN multiplies on this CPU; none where torch was built without it."""
    if not torch._C._has_mkldnn or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return frozenset()
    half = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return frozenset({torch.float32, torch.bfloat16} if half else {torch.float32})


_ONEDNN = _onednn_dtypes()


def product(inputs: Tensor, layer: Affine) -> Tensor:
    """``inputs @ weight.T + bias``; without gradients."""
    if _by_onednn(inputs):
        return _onednn(inputs, layer, "none", "")
    return F.linear(inputs, *layer)


def gelu_product(inputs: Tensor, layer: Affine, approximate: str) -> Tensor:
    """`product`, then GELU by the formula ``tanh`` or ``none``."""
    if _by_onednn(inputs):
        return _onednn(inputs, layer, "gelu", approximate)
    return F.gelu(F.linear(inputs, *layer), approximate=approximate)


def _by_onednn(inputs: Tensor) -> bool:
    return inputs.device.type == "cpu" and inputs.dtype in _ONEDNN


def _onednn(inputs: Tensor, layer: Affine, activation: str, formula: str) -> Tensor:
    """What torch's own compiler uses on a CPU: bias and GELU inside the product, in one pass."""
    run = _opaque if torch.compiler.is_compiling() else _linear_pointwise
    result: Tensor = run(inputs, layer.weight, layer.bias, activation, formula)
    return result


def _linear_pointwise(
    inputs: Tensor, weight: Tensor, bias: Tensor | None, activation: str, formula: str
) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(
        inputs, weight, bias, activation, [], formula
    )
    return result


# The compiler would insist on weights that never change; hidden from it, the product stays as it
# is, and what lies between the products is fused.
_opaque = torch.library.custom_op(
    "pixcell_share::linear_pointwise",
    _linear_pointwise,
    mutates_args=(),
    schema="(Tensor inputs, Tensor weight, Tensor? bias, str activation, str formula) -> Tensor",
)


@_opaque.register_fake
def _shape(
    inputs: Tensor, weight: Tensor, bias: Tensor | None, activation: str, formula: str
) -> Tensor:
    return inputs.new_empty((*inputs.shape[:-1], weight.shape[0]))


def affine(layer: nn.Module) -> Affine:
    """The weights of a linear layer; active LoRA adapters (arXiv:2106.09685) are merged.

    Args:
        layer: ``nn.Linear``, one wrapped by peft, or any other module that is affine in its input
            and knows ``in_features``.
    """
    if type(layer) is nn.Linear:
        return Affine(layer.weight, layer.bias)
    wrapped: Any = layer
    base = getattr(wrapped, "base_layer", None)
    if type(base) is nn.Linear and _is_plain_lora(wrapped):
        weight = base.weight.clone()
        for name in [] if wrapped.disable_adapters or wrapped.merged else wrapped.active_adapters:
            if name in wrapped.lora_A:
                weight += wrapped.get_delta_weight(name).to(weight.dtype)
        return Affine(weight, base.bias)
    return _probed(wrapped)


def stacked(layers: list[Affine]) -> Affine:
    """One layer that gives the outputs of several side by side, (sum of out, in)."""
    weight = torch.cat([layer.weight for layer in layers])
    biases = [layer.bias for layer in layers if layer.bias is not None]
    return Affine(weight, torch.cat(biases) if len(biases) == len(layers) else None)


def _is_plain_lora(layer: Any) -> bool:
    """Whether the output is that of the base layer plus ``get_delta_weight`` times the input."""
    if not hasattr(layer, "get_delta_weight") or not hasattr(layer, "lora_A"):
        return False
    variants = getattr(layer, "lora_variant", None)
    biased = any(getattr(layer, "lora_bias", {}).values())
    return not variants and not biased


def _probed(layer: Any) -> Affine:
    """The weights as the layer's answers to the unit vectors: right for every affine layer."""
    inputs = int(layer.in_features)
    like = next(layer.parameters())
    zero = torch.zeros(1, inputs, device=like.device, dtype=like.dtype)
    bias = layer(zero)[0]
    unit = torch.eye(inputs, device=like.device, dtype=like.dtype)
    return Affine((layer(unit) - bias).T.contiguous(), bias)
