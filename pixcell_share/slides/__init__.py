"""Slides: find them, open them, find their tissue, and read tiles of them."""

from pixcell_share.slides.coords import read_coords, write_coords
from pixcell_share.slides.features import FeatureFile, read_features, write_features
from pixcell_share.slides.grid_format import TileGrid, level0_tile_px
from pixcell_share.slides.reader import Slide, open_slide
from pixcell_share.slides.records import SlideRecord, find_slides, unlisted_slides
from pixcell_share.slides.tiles import read_tiles

__all__ = [
    "FeatureFile",
    "Slide",
    "SlideRecord",
    "TileGrid",
    "find_slides",
    "level0_tile_px",
    "open_slide",
    "read_coords",
    "read_features",
    "read_tiles",
    "unlisted_slides",
    "write_coords",
    "write_features",
]
