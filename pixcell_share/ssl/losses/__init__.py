"""DINOv2's losses and what makes the teacher's targets."""

from pixcell_share.ssl.losses.centring import Centre
from pixcell_share.ssl.losses.cross_entropy import cross_entropy
from pixcell_share.ssl.losses.dino import dino_loss
from pixcell_share.ssl.losses.ibot import ibot_loss
from pixcell_share.ssl.losses.koleo import koleo_loss
from pixcell_share.ssl.losses.sinkhorn import sinkhorn_knopp

__all__ = [
    "Centre",
    "cross_entropy",
    "dino_loss",
    "ibot_loss",
    "koleo_loss",
    "sinkhorn_knopp",
]
