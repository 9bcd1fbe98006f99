"""Latent stores: what the trainer learns from, written once and read many times."""

from pixcell_share.training.latents.info import SPLITS, Split, StoreInfo
from pixcell_share.training.latents.order import Address, ShuffledOrder, Source
from pixcell_share.training.latents.shards import IndexRow
from pixcell_share.training.latents.store import LatentStore, OnBad, Regions
from pixcell_share.training.latents.writer import StoreWriter

__all__ = [
    "SPLITS",
    "Address",
    "IndexRow",
    "LatentStore",
    "OnBad",
    "Regions",
    "ShuffledOrder",
    "Source",
    "Split",
    "StoreInfo",
    "StoreWriter",
]
