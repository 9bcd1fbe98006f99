"""Student and teacher, and the loss of a batch.

After facebookresearch/dinov2 (Apache-2.0), ``dinov2/train/ssl_meta_arch.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from pixcell_share.ssl.batch import CropBatch
from pixcell_share.ssl.losses import Centre, dino_loss, ibot_loss, koleo_loss, sinkhorn_knopp
from pixcell_share.ssl.network import Network, Views
from pixcell_share.ssl.settings import SslSettings
from pixcell_share.training.distributed import local

Sum = Callable[[Tensor], Tensor]
"""The sum of a tensor over the ranks."""


@dataclass
class StepLosses:
    """The loss of a micro-batch and its parts."""

    total: Tensor
    """Scalar to descend."""
    parts: Tensor
    """``(3,)`` DINO, iBOT and KoLeo, not weighed, without gradient."""


class Distillation(nn.Module):
    """Student, teacher and what makes the teacher's targets.

    Args:
        settings: of the run.
    """

    def __init__(self, settings: SslSettings) -> None:
        super().__init__()
        self._loss = settings.loss
        self.student = Network(settings)
        self.teacher = Network(settings)
        self.teacher.load_state_dict(self.student.state_dict())
        self.teacher.requires_grad_(False)
        self.dino_centre = Centre(settings.dino_head.prototypes)
        self.ibot_centre = Centre((settings.ibot_head or settings.dino_head).prototypes)

    def losses(
        self, student: Callable[..., Views], batch: CropBatch, temperature: float, add_up: Sum
    ) -> StepLosses:
        """Run both networks on a batch.

        Args:
            student: `self.student`, as the ranks run it together.
            batch: on the device.
            temperature: of the teacher.
            add_up: over the ranks.
        """
        with torch.no_grad():
            whole: Views = self.teacher(batch, student=False)
            if isinstance(self.teacher, FSDPModule):
                self.teacher.reshard()  # which else happens on the way back
            logits = whole.global_logits
            targets = self._targets(logits.flatten(0, 1), self.dino_centre, temperature, add_up)
            hidden = self._targets(whole.patch_logits, self.ibot_centre, temperature, add_up)
        seen = student(batch, student=True)
        dino = dino_loss(seen.global_logits, seen.local_logits, targets.view(logits.shape))
        ibot = ibot_loss(seen.patch_logits, hidden, batch.weights, len(batch.masks))
        # Of one crop at a time: the two crops of a tile are meant to be near.
        koleo = koleo_loss(seen.class_tokens[0]) + koleo_loss(seen.class_tokens[1])
        weights = self._loss
        total = weights.dino * dino + weights.ibot * ibot + weights.koleo * koleo
        return StepLosses(total, torch.stack([dino, ibot, koleo / 2]).detach())

    @torch.no_grad()
    def after_step(self, momentum: float, add_up: Sum) -> None:
        """Move the teacher towards the student, and the centres towards the teacher's logits.

        Args:
            momentum: share of the teacher that is kept.
            add_up: over the ranks.
        """
        kept = [local(weight) for weight in self.teacher.parameters()]
        new = [local(weight.detach()) for weight in self.student.parameters()]
        torch._foreach_lerp_(kept, new, 1 - momentum)
        if self._loss.targets == "centring":
            self.dino_centre.update(add_up)
            self.ibot_centre.update(add_up)

    def _targets(self, logits: Tensor, centre: Centre, temperature: float, add_up: Sum) -> Tensor:
        if self._loss.targets == "centring":
            return centre.targets(logits, temperature)
        return sinkhorn_knopp(logits, temperature, add_up)


def build(settings: SslSettings) -> Distillation:
    """Student and teacher at their start, on the CPU; every rank builds the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return Distillation(settings)
