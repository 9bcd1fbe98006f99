"""The PixCell generator: embeddings of real tiles in, synthetic tiles out."""

from pixcell_share.pixcell.device import DTYPES
from pixcell_share.pixcell.model import PixCell
from pixcell_share.pixcell.sampler import SamplerSettings
from pixcell_share.pixcell.seeds import tile_noise, tile_seed
from pixcell_share.pixcell.transformer import PixCellTransformer2DModel
from pixcell_share.pixcell.vae import LatentCodec, to_pixels, to_uint8

__all__ = [
    "DTYPES",
    "LatentCodec",
    "PixCell",
    "PixCellTransformer2DModel",
    "SamplerSettings",
    "tile_noise",
    "tile_seed",
    "to_pixels",
    "to_uint8",
]
