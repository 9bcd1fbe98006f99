"""``texture``: a fixed descriptor of colour and texture, as an encoder without weights.

It is for *audits* on machines that hold no second foundation model. Nothing in it was trained;
each number is a plain statistic of the picture, standardised by the median and the spread that
`_texture_standard` lists, and each family of numbers weighs the same in a distance:

- colour: moments, histograms and correlations of red, green, blue and of the densities of
  haematoxylin, eosin and residual (Ruifrok & Johnston 2001, Anal Quant Cytol Histol 23:291); the
  joint histogram of two opponent colours; colour as a function of darkness, which tells the stain
  of a slide apart from what the tile shows;
- texture: energies and correlations of five octave bands, rotation-invariant uniform local binary
  patterns at four scales (Ojala et al. 2002, IEEE TPAMI 24:971; neighbours on the square of eight
  pixels, so that nothing is interpolated), autocorrelations, and the fine grain of each channel,
  which tells scanner and focus.

All numbers are pooled over the whole tile, so that flips and quarter turns change nothing but
rounding.

How good it is (``python benchmarks/second_encoder.py``): the share of real tiles whose nearest
other tile, by cosine, is of the same near-duplicate group of ``lung_tiles`` (3,409 tiles, copies
under rotation) or of the same breast field (500 tiles that do not overlap, 25 fields), and the
accuracy of five neighbours of other groups for the class of lung tiles:

============  =========================  =========================  ==========
descriptor    same group (95 %)          same field (95 %)          class 5-NN
============  =========================  =========================  ==========
texture       0.957 (0.950 to 0.964)     0.570 (0.526 to 0.613)     0.946
nano          0.935 (0.926 to 0.942)     0.430 (0.387 to 0.474)     0.905
45 numbers    0.879 (0.868 to 0.890)     0.494 (0.450 to 0.538)     0.926
============  =========================  =========================  ==========

The intervals take tiles as independent, which those of one group are not. Its families were chosen
on a third of the lung groups and on the fields: expect a little less elsewhere.

It does not see what a foundation model sees: a report must call it the weaker choice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixcell_share.encoders._texture_standard import CENTRES, SPREADS
from pixcell_share.encoders.spec import EncoderSpec, Licence, Loaded, LoadRequest
from pixcell_share.encoders.transform import TileTransform
from pixcell_share.errors import SettingsError
from pixcell_share.weights import PACKAGE_SOURCE, Located

__all__ = ["FAMILIES", "RECIPE", "TextureDescriptor", "TextureSource", "texture_spec"]

RECIPE = "texture-1"
"""Version of the recipe: another one gives other numbers."""

_INPUT_PX = 256
_STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
_DARKEST = 1 / 255  # a density has no upper end
_OCTAVES = 6
_LAGS = (1, 2, 4, 8, 16)  # at half the tile's resolution
_BINS = 16
_LEVELS = 8
_PRIOR = 0.01  # weight of the tile's mean where a level of darkness has hardly a pixel
_CLIP = 4.0

Family = Callable[["_View"], Tensor]


@dataclass(frozen=True, eq=False)
class _View:
    """A batch, prepared once for all families."""

    colours: Tensor
    """(B, 6, P) red, green, blue in [0, 1], then three densities, at half resolution."""
    densities: Tensor
    """(B, 3, P) optical density of red, green, blue, at half resolution."""
    rgb: list[Tensor]
    """(B, 3, H / 2^j, W / 2^j), a level for each j."""
    stains: list[Tensor]
    """(B, 3, H / 2^j, W / 2^j) haematoxylin, eosin and brightness, from half resolution on."""


class TextureDescriptor(nn.Module):
    """Maps (B, 3, 256, 256) in [0, 1] to (B, dim); no parameters, only listed constants."""

    def __init__(self) -> None:
        super().__init__()
        sizes = torch.tensor([len(CENTRES[name]) for name in FAMILIES])
        shares = sizes.float().rsqrt()
        spreads = torch.tensor([value for name in FAMILIES for value in SPREADS[name]])
        self.register_buffer(
            "_centre", torch.tensor([value for name in FAMILIES for value in CENTRES[name]])
        )
        self.register_buffer("_spread", spreads)
        self.register_buffer("_share", shares.repeat_interleave(sizes))

    def forward(self, pixels: Tensor) -> Tensor:
        """The standardised descriptor, in float32 whatever precision surrounds it."""
        with torch.autocast(pixels.device.type, enabled=False):
            raw = torch.cat(list(describe(pixels.float()).values()), dim=1)
            centre, spread, share = (
                cast(Tensor, getattr(self, name)) for name in ("_centre", "_spread", "_share")
            )
            return ((raw - centre) / spread).clamp(-_CLIP, _CLIP) * share


def describe(pixels: Tensor) -> dict[str, Tensor]:
    """Each family's numbers (B, n) as they are measured, for pixels (B, 3, 256, 256) in [0, 1]."""
    view = _prepare(pixels)
    return {name: family(view) for name, family in FAMILIES.items()}


def _prepare(pixels: Tensor) -> _View:
    # Whole grey levels add up without rounding, in any order: so a turned tile falls into the
    # same bins of every histogram.
    rgb = [(pixels * 255).round_()]
    for _ in range(_OCTAVES):
        rgb.append(_halved(rgb[-1]))
    half = rgb[1] / 255
    density = -half.clamp_min(_DARKEST).log10()
    unmix = torch.linalg.inv(torch.tensor(_STAINS, device=pixels.device)).T.tolist()
    stained = [sum(w * density[:, i] for i, w in enumerate(row)) for row in unmix]
    stains = torch.stack([cast(Tensor, channel) for channel in stained], dim=1)
    pyramid = [torch.cat([stains[:, :2], rgb[1].sum(1, keepdim=True) / 765], dim=1)]
    for _ in range(_OCTAVES - 1):
        pyramid.append(_halved(pyramid[-1]))
    return _View(torch.cat([half, stains], dim=1).flatten(2), density.flatten(2), rgb, pyramid)


def _halved(image: Tensor) -> Tensor:
    return F.avg_pool2d(image, 2)


def _band(fine: Tensor, coarse: Tensor) -> Tensor:
    """What (B, C, H, W) holds beyond its half-size version; flat, its mean is zero."""
    return (fine - F.interpolate(coarse, scale_factor=2.0)).flatten(2)


def _log(values: Tensor, floor: float = 1e-3) -> Tensor:
    return (values + floor).log()


# -- colour -----------------------------------------------------------------------------------


def _moments(view: _View) -> Tensor:
    """Mean, deviation, skewness and kurtosis of the six colours: 24."""
    mean = view.colours.mean(2, keepdim=True)
    centred = view.colours - mean
    squared = centred * centred
    variance = squared.mean(2)
    deviation = (variance + 1e-8).sqrt()
    skewness = (squared * centred).mean(2) / (deviation**3 + 1e-5)
    kurtosis = (squared * squared).mean(2) / (variance**2 + 1e-6)
    return torch.cat([mean.squeeze(2), _log(deviation), skewness, kurtosis.log1p()], dim=1)


def _histograms(view: _View) -> Tensor:
    """Square roots of the shares of 16 levels of each of the six colours: 96."""
    low = view.colours.new_tensor([0, 0, 0, -0.1, -0.1, -0.1])[:, None]
    width = view.colours.new_tensor([1, 1, 1, 1.2, 1.2, 1.2])[:, None]
    return _shares(_level((view.colours - low) / width, _BINS), _BINS).flatten(1)


def _opponents(view: _View) -> tuple[Tensor, Tensor]:
    red, green, blue = view.colours[:, 0], view.colours[:, 1], view.colours[:, 2]
    return red - green, blue - green


def _joint_colours(view: _View) -> Tensor:
    """Square roots of the joint shares of 8 by 8 opponent colours (R - G, B - G): 64."""
    first, second = (_level((value + 0.1) / 0.6, _LEVELS) for value in _opponents(view))
    return _shares((first * _LEVELS + second)[:, None], _LEVELS**2).flatten(1)


def _colour_correlations(view: _View) -> Tensor:
    """Correlations of red, green and blue: 3."""
    return _correlations(view.colours[:, :3] - view.colours[:, :3].mean(2, keepdim=True))


def _stain_by_density(view: _View) -> Tensor:
    """Shares of red and blue in the density, at 8 levels of total density: 16."""
    total = view.densities.sum(1)
    ratios = view.densities[:, [0, 2]] / (total[:, None] + 0.15)
    return _conditional(_level((total - 0.1) / 2, _LEVELS), ratios)[0]


def _colour_by_brightness(view: _View) -> Tensor:
    """Mean and spread of the opponent colours at 8 levels of brightness: 32."""
    brightness = view.colours[:, :3].sum(1) / 3
    level = _level((brightness - 0.15) / 0.85, _LEVELS)
    mean, spread = _conditional(level, torch.stack(_opponents(view), dim=1))
    return torch.cat([mean, _log(spread)], dim=1)


# -- texture ----------------------------------------------------------------------------------


def _bands(view: _View) -> Tensor:
    """Log deviation of five octave bands of haematoxylin, eosin and brightness: 15."""
    return torch.cat([_log(_deviation(band)) for band in _stain_bands(view)], dim=1)


def _band_correlations(view: _View) -> Tensor:
    """Correlations of the three channels in each of the five bands: 15."""
    return torch.cat([_correlations(band) for band in _stain_bands(view)], dim=1)


def _stain_bands(view: _View) -> list[Tensor]:
    return [_band(*pair) for pair in pairwise(view.stains)]


def _grain(view: _View) -> Tensor:
    """Correlations of red, green and blue in the four finest bands, and their fall: 21."""
    bands = [_band(view.rgb[j], view.rgb[j + 1]) for j in range(4)]
    energies = [_log(_deviation(band), 0.1) for band in bands]
    falls = [after - before for before, after in pairwise(energies)]
    return torch.cat([*map(_correlations, bands), *falls], dim=1)


def _grain_by_brightness(view: _View) -> Tensor:
    """Mean size of the finest two bands at 8 levels of brightness: 16."""
    found = []
    for j in range(2):
        coarse = view.rgb[j + 1]
        band = (view.rgb[j] - F.interpolate(coarse, scale_factor=2.0)).abs()
        size = _halved(band.sum(1, keepdim=True)).flatten(2)  # brightness is that of four pixels
        level = _level((coarse.sum(1).flatten(1) / 765 - 0.15) / 0.85, _LEVELS)
        found.append(_log(_conditional(level, size)[0], 0.1))
    return torch.cat(found, dim=1)


def _binary_patterns(view: _View) -> Tensor:
    """Square roots of the shares of the ten rotation-invariant uniform patterns: 40."""
    return torch.cat([_patterns(view.rgb[j].sum(1)) for j in range(4)], dim=1)


def _patterns(grey: Tensor) -> Tensor:
    """(B, H, W) to (B, 10): patterns of 0 to 8 brighter neighbours in one run, and all others."""
    height, width = grey.shape[1:]
    ring = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))
    # Half a grey level in the sum of three channels: no tie is left to rounding.
    middle = grey[:, 1:-1, 1:-1] + 0.5
    bits = [grey[:, y : height - 2 + y, x : width - 2 + x] > middle for y, x in ring]
    brighter = torch.zeros_like(middle, dtype=torch.uint8)
    changes = torch.zeros_like(brighter)
    for bit, following in zip(bits, [*bits[1:], bits[0]], strict=True):
        brighter += bit
        changes += bit ^ following
    code = torch.where(changes <= 2, brighter, 9)
    return _shares(code.flatten(1)[:, None].long(), 10).flatten(1)


def _autocorrelations(view: _View) -> Tensor:
    """Autocorrelation of haematoxylin, eosin and brightness at five lags, both axes pooled: 15."""
    image = view.stains[0] - view.stains[0].mean((2, 3), keepdim=True)
    variance = (image * image).mean((2, 3)) + 1e-5
    found = []
    for lag in _LAGS:
        across = (image[..., lag:] * image[..., :-lag]).mean((2, 3))
        down = (image[:, :, lag:] * image[:, :, :-lag]).mean((2, 3))
        found.append((across + down) / (2 * variance))
    return torch.cat(found, dim=1)


# -- shared arithmetic ------------------------------------------------------------------------


def _level(values: Tensor, levels: int) -> Tensor:
    """The level, 0 to ``levels`` - 1, of values that are meant to lie in [0, 1]."""
    return (values * levels).long().clamp_(0, levels - 1)


def _shares(codes: Tensor, count: int) -> Tensor:
    """Square roots (Hellinger) of the shares of ``count`` codes in (B, C, P): (B, C, count)."""
    rows = codes.shape[0] * codes.shape[1]
    offsets = torch.arange(rows, device=codes.device).view(*codes.shape[:2], 1) * count
    found = torch.bincount((codes + offsets).flatten(), minlength=rows * count)
    return (found.view(*codes.shape[:2], count) / codes.shape[2]).sqrt()


def _conditional(level: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of values (B, C, P) at each level (B, P): (B, C * 8) both.

    An empty level has the mean of the tile and no deviation.
    """
    chosen = F.one_hot(level, _LEVELS).to(values.dtype)
    prior = _PRIOR * level.shape[1]
    weight = chosen.sum(1)[:, None] + prior
    overall = values.mean(2, keepdim=True)
    centred = values - overall
    mean = centred @ chosen / weight
    square = (centred * centred) @ chosen / weight
    deviation = (square - mean * mean).clamp_min(0).sqrt()
    return (mean + overall).flatten(1), deviation.flatten(1)


def _deviation(band: Tensor) -> Tensor:
    return (band * band).mean(2).sqrt()


def _correlations(values: Tensor) -> Tensor:
    """Correlations (B, 3) of each two of three centred channels (B, 3, P)."""
    pairs = ((0, 1), (0, 2), (1, 2))
    size = _deviation(values) + 1e-3
    products = [(values[:, i] * values[:, j]).mean(1) / (size[:, i] * size[:, j]) for i, j in pairs]
    return torch.stack(products, dim=1)


FAMILIES: dict[str, Family] = {
    "moments": _moments,
    "histograms": _histograms,
    "joint_colours": _joint_colours,
    "colour_correlations": _colour_correlations,
    "stain_by_density": _stain_by_density,
    "colour_by_brightness": _colour_by_brightness,
    "bands": _bands,
    "band_correlations": _band_correlations,
    "grain": _grain,
    "grain_by_brightness": _grain_by_brightness,
    "binary_patterns": _binary_patterns,
    "autocorrelations": _autocorrelations,
}
"""Each family by its name in the constants; in a distance all weigh the same."""


@dataclass(frozen=True)
class TextureSource:
    """The recipe itself: this file and its constants, in place of weights."""

    @property
    def repo(self) -> str:
        """This package."""
        return PACKAGE_SOURCE

    def find(self, request: LoadRequest) -> Located | None:
        """Always here."""
        return Located(_FILES[0].parent, PACKAGE_SOURCE, RECIPE)

    def load(self, request: LoadRequest) -> Loaded:
        """The descriptor.

        Raises:
            SettingsError: weights were named for it.
        """
        if request.weights is not None:
            raise SettingsError(
                "the texture descriptor has no weights", "leave the weights of `texture` out"
            )
        located = Located(_FILES[0].parent, PACKAGE_SOURCE, RECIPE)
        return Loaded(TextureDescriptor(), located, _FILES)


_FILES = (Path(__file__).resolve(), Path(__file__).resolve().with_name("_texture_standard.py"))


def texture_spec() -> EncoderSpec:
    """The registry's entry."""
    return EncoderSpec(
        name="texture",
        dim=sum(map(len, CENTRES.values())),
        source=TextureSource(),
        transform=TileTransform(input_px=_INPUT_PX, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        licence=Licence("Apache-2.0", False, page=""),
    )
