"""Encoders: one registry from a name to a model, its transform, dimension and licence."""

from pixcell_share.encoders.encoder import Encoder, embed_grid, encoder_spec, load_encoder
from pixcell_share.encoders.registry import ENCODERS
from pixcell_share.encoders.second import (
    SecondEncoder,
    require_independent,
    second_encoder,
    second_encoder_name,
)
from pixcell_share.encoders.spec import EncoderSpec, Licence, LoadRequest
from pixcell_share.encoders.transform import TileTransform

__all__ = [
    "ENCODERS",
    "Encoder",
    "EncoderSpec",
    "Licence",
    "LoadRequest",
    "SecondEncoder",
    "TileTransform",
    "embed_grid",
    "encoder_spec",
    "load_encoder",
    "require_independent",
    "second_encoder",
    "second_encoder_name",
]
