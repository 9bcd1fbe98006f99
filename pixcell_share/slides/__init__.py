"""Slides: find them, open them, find their tissue, and read tiles of them."""

from pixcell_share.slides.contours import Polygon
from pixcell_share.slides.coords import read_coords, write_coords
from pixcell_share.slides.demo_tiles import draw_demo_tiles
from pixcell_share.slides.features import FeatureFile, read_features, write_features
from pixcell_share.slides.geojson import read_geojson, write_geojson
from pixcell_share.slides.grid import GridReport, SurveyedGrid, TilingSettings, lay_grid
from pixcell_share.slides.grid_format import TileGrid, level0_tile_px
from pixcell_share.slides.ink import InkSettings
from pixcell_share.slides.phantom import draw_demo_slides
from pixcell_share.slides.picture_grid import LaidPictures, lay_pictures
from pixcell_share.slides.picture_strip import PictureStrip
from pixcell_share.slides.reader import Slide, open_slide
from pixcell_share.slides.records import SlideRecord, find_slides, unlisted_slides
from pixcell_share.slides.thumbnail import write_thumbnail
from pixcell_share.slides.tile_set import find_tile_sets
from pixcell_share.slides.tiles import read_tiles
from pixcell_share.slides.tissue import Tissue, TissueSettings, find_tissue, tissue_from_polygons

__all__ = [
    "FeatureFile",
    "GridReport",
    "InkSettings",
    "LaidPictures",
    "PictureStrip",
    "Polygon",
    "Slide",
    "SlideRecord",
    "SurveyedGrid",
    "TileGrid",
    "TilingSettings",
    "Tissue",
    "TissueSettings",
    "draw_demo_slides",
    "draw_demo_tiles",
    "find_slides",
    "find_tile_sets",
    "find_tissue",
    "lay_grid",
    "lay_pictures",
    "level0_tile_px",
    "open_slide",
    "read_coords",
    "read_features",
    "read_geojson",
    "read_tiles",
    "tissue_from_polygons",
    "unlisted_slides",
    "write_coords",
    "write_features",
    "write_geojson",
    "write_thumbnail",
]
