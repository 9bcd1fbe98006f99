"""A DINOv2 step put together from lightly's parts, as its documentation's example does it."""

from __future__ import annotations

import copy

import timm
import torch
from lightly.loss import DINOLoss, IBOTPatchLoss, KoLeoLoss
from lightly.models.modules import DINOv2ProjectionHead, MaskedVisionTransformerTIMM
from lightly.models.utils import update_drop_path_rate, update_momentum
from torch import Tensor, nn

from pixcell_share.ssl import SslSettings
from pixcell_share.ssl.architectures import architecture
from pixcell_share.ssl.batch import CropBatch
from pixcell_share.ssl.network import normalised
from pixcell_share.ssl.schedules import StepSchedule


class LightlyStep:
    """Student, teacher, optimizer and losses of lightly, of the sizes of our settings.

    One head for class tokens and patches, centring, and no clipping of gradients, as there.
    """

    def __init__(self, settings: SslSettings, device: torch.device) -> None:
        shape, head = architecture(settings.architecture), settings.dino_head
        vit = timm.create_model(
            shape.timm_name, img_size=settings.crops.global_px, dynamic_img_size=True,
            init_values=settings.layer_scale, num_classes=0,
        )  # fmt: skip
        backbone = MaskedVisionTransformerTIMM(vit=vit, pos_embed_initialization="skip")
        sizes = (shape.width, head.hidden, head.bottleneck, head.prototypes)
        student, teacher = (DINOv2ProjectionHead(*sizes) for _ in range(2))
        teacher.load_state_dict(student.state_dict())
        self._student = nn.ModuleList([backbone, student]).to(device).train()
        self._teacher = nn.ModuleList([copy.deepcopy(backbone), teacher]).to(device)
        self._teacher.requires_grad_(False).eval()
        update_drop_path_rate(vit, drop_path_rate=settings.drop_path, mode="uniform")
        self._dino = DINOLoss(head.prototypes).to(device)
        self._ibot = IBOTPatchLoss(head.prototypes).to(device)
        self._koleo = KoLeoLoss()
        self._optimizer = torch.optim.AdamW(self._student.parameters(), lr=0.001)
        self._grid = settings.crops.global_px // shape.patch
        self._device, self._bf16 = device, settings.bf16

    def step(self, batch: CropBatch, now: StepSchedule) -> Tensor:
        """Learn from a batch; its loss."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            loss = self._loss(batch, now.temperature)
        loss.backward()
        for group in self._optimizer.param_groups:
            group["lr"], group["weight_decay"] = now.rate, now.weight_decay
        self._optimizer.step()
        self._optimizer.zero_grad()
        for student, teacher in zip(self._student, self._teacher, strict=True):
            update_momentum(student, teacher, m=now.momentum)
        return loss.detach()

    def _loss(self, batch: CropBatch, temperature: float) -> Tensor:
        big, small = (normalised(part.flatten(0, 1)) for part in (batch.globals, batch.locals))
        blocks = batch.masks.view(-1, self._grid, self._grid)
        mask = torch.cat([torch.zeros_like(batch.masks[:, :1]), batch.masks], dim=1)
        with torch.no_grad():
            backbone, head = self._teacher
            seen = backbone.encode(big)
            targets, hidden = head(seen[:, 0]), head(seen[mask])
        backbone, head = self._student
        seen = backbone.encode(big, mask=mask)
        classes, patches = seen[:, 0], head(seen[mask])
        logits = torch.cat([head(classes), head(backbone.encode(small)[:, 0])])
        dino = self._dino(targets.chunk(2), logits.chunk(2 + len(batch.locals)), temperature)
        ibot = self._ibot(hidden, patches, blocks, temperature)
        return dino + ibot + 0.1 * sum(self._koleo(part) for part in classes.chunk(2))
