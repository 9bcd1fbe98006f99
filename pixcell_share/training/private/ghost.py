"""Gradient norms of patients without their gradients: ghost clipping of linear layers.

A linear layer with input a (tokens, I) and output gradient g (tokens, O) has the weight gradient
G = g^T a. Over all tokens of all tiles of one patient (s and t run over them),

    |G|^2 = sum over s, t of (a_s . a_t) (g_s . g_t)

(Goodfellow, arXiv:1510.01799; Li et al., ICLR 2022). So no (O, I) matrix is needed. Where there
are many tokens it is the cheaper way round to form G, for this one layer, and forget it: a LoRA's
matrices are small ("mixed ghost clipping", Bu et al., NeurIPS 2022). Afterwards the clipped sum is
one product of the same a and g, with each patient's g scaled: no second backward pass is needed
("book-keeping", Bu et al., ICML 2023).

Why not `opacus.grad_sample.GradSampleModuleFastGradientClipping`: in opacus 1.6 a record is a row
of the batch. Its norm of a linear layer is taken row by row, and a patient's gradient is a sum
over rows: its norm does not follow from theirs. It also always forms the tokens x tokens matrix,
4 GiB for eight tiles of PixCell-1024 in one layer, and runs the backward pass twice. Where every
patient has one tile the norms are compared with opacus' in the tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_MARGIN = 1 + 1e-5
"""Norms are rounded sums in float32; what is scaled by them must not pass the clip."""


class Grouping:
    """Which tiles of a batch belong together.

    Args:
        owners: (B,) number of each tile's patient in this batch, from 0 on; on the CPU.
        patients: how many there are, P.
        device: of what is grouped.
    """

    def __init__(self, owners: Tensor, patients: int, device: torch.device | str = "cpu") -> None:
        order = torch.argsort(owners, stable=True)
        counts = torch.bincount(owners, minlength=patients)
        places = torch.arange(len(owners)) - (counts.cumsum(0) - counts)[owners[order]]
        self.patients = patients
        self.owners = owners.to(device)
        """(B,) on the device."""
        self._most = int(counts.max())
        self._equal = bool((counts == self._most).all())
        self._order, self._places = order.to(device), places.to(device)

    def gather(self, rows: Tensor) -> Tensor:
        """(B, ..., D) to (P, n, D): all tokens of all tiles of a patient, zeros after the last."""
        rows = rows[self._order]
        if not self._equal:
            room = rows.new_zeros(self.patients, self._most, *rows.shape[1:])
            room[self.owners[self._order], self._places] = rows
            rows = room
        return rows.reshape(self.patients, -1, rows.shape[-1])


def squared_norms(inputs: Tensor, gradients: Tensor, grouping: Grouping) -> Tensor:
    """(P,) squared norm of each patient's weight gradient of one linear layer.

    Args:
        inputs: (B, ..., I) of the layer.
        gradients: (B, ..., O) of its output.
        grouping: of the tiles into patients.
    """
    a, g = grouping.gather(inputs.float()), grouping.gather(gradients.float())
    tokens, wide, high = a.shape[1], a.shape[2], g.shape[2]
    if tokens * (wide + high) <= wide * high:
        return (a @ a.mT * (g @ g.mT)).sum((1, 2)).clamp_min(0)
    return (g.mT @ a).square().sum((1, 2))


def clip_factors(squared: Tensor, clip: float | None) -> Tensor:
    """(P,) what each patient's gradient is multiplied by; ones where nothing is clipped."""
    if clip is None:
        return torch.ones_like(squared)
    return (clip / (squared.sqrt() * _MARGIN).clamp_min(torch.finfo(squared.dtype).tiny)).clamp(
        max=1
    )


@contextmanager
def whole_products() -> Iterator[None]:
    """Keep matrix products in float32 while the block runs.

    With TF32 switched on, norms and sums would differ by 1e-3, and the clip could be passed.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def weighted_gradient(inputs: Tensor, gradients: Tensor, weights: Tensor) -> Tensor:
    """(O, I) sum over tiles of ``weights`` (B,) times their weight gradients, float32."""
    scaled = gradients.float() * weights.view(-1, *[1] * (gradients.ndim - 1))
    return scaled.flatten(0, -2).mT @ inputs.float().flatten(0, -2)
