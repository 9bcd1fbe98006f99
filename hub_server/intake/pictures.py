"""What the tiles of a cohort are like, all of them together, and whether that will do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from hub_server.intake.reasons import Reason
from hub_server.intake_settings import IntakeSettings
from pixcell_share.bundles._confined.look import DIGEST_BYTES
from pixcell_share.errors import FormatError

_CONSTANT_SPREAD = 0.25
_BLANK_SPREAD, _BLANK_MEAN = 4.0, 200.0
"""Glass on a slide is bright and has the noise of the scanner, about two grey levels."""
_LEAST_RANGE = 32
_REMEDY = "ask the site what went wrong in its generator"


@dataclass(frozen=True)
class PictureFacts:
    """What was found; counts are of tiles."""

    tiles: int
    constant: int
    """Of one colour, as far as a sample of their pixels shows."""
    blank: int
    """Bright and next to empty, the constant ones among them where they are bright."""
    repeated: int
    """Equal to a tile before them, pixel for pixel."""
    alike: int
    """Not equal to another, but brighter and darker in the same of 8 x 8 cells; blank and
    constant ones do not count."""
    low: int
    """The least value of all pixels."""
    high: int
    """The greatest."""

    def as_counts(self) -> dict[str, int]:
        """By name, for the summary and the log."""
        return asdict(self)


class Album:
    """Gathers what the confined process says of each tile: 24 bytes a tile, never a tile.

    Args:
        tiles: how many will come.
    """

    def __init__(self, tiles: int) -> None:
        self._digests = np.zeros(tiles, f"S{DIGEST_BYTES}")
        self._shapes = np.zeros(tiles, np.uint64)
        self._count = self._constant = self._blank = 0
        self._low, self._high = 255, 0

    def add(self, looks: NDArray[np.void]) -> None:
        """Take one shard's looks (N,), of type `_confined.look.LOOK`."""
        place = slice(self._count, self._count + len(looks))
        constant = looks["spread"] < _CONSTANT_SPREAD
        blank = (looks["spread"] < _BLANK_SPREAD) & (looks["mean"] > _BLANK_MEAN)
        self._digests[place] = looks["digest"]
        self._shapes[place] = np.where(constant | blank, 0, looks["shape"])
        self._count += len(looks)
        self._constant += int(constant.sum())
        self._blank += int(blank.sum())
        self._low = min(self._low, int(looks["low"].min()))
        self._high = max(self._high, int(looks["high"].max()))

    def facts(self) -> PictureFacts:
        """What was found in all tiles so far."""
        kept, first = np.unique(self._digests[: self._count], return_index=True)
        shapes = self._shapes[first]
        _, inverse, sizes = np.unique(shapes, return_inverse=True, return_counts=True)
        alike = int(((sizes[inverse] > 1) & (shapes != 0)).sum())
        return PictureFacts(
            tiles=self._count,
            constant=self._constant,
            blank=self._blank,
            repeated=self._count - len(kept),
            alike=alike,
            low=self._low,
            high=self._high,
        )

    def distinct(self) -> Iterator[bytes]:
        """16 bytes of each tile, in order, each once."""
        for digest in np.unique(self._digests[: self._count]):
            yield bytes(digest).ljust(DIGEST_BYTES, b"\0")


def check_pictures(facts: PictureFacts, settings: IntakeSettings) -> None:
    """Refuse a cohort of which too much is no picture.

    Raises:
        FormatError: saying how many, and how many may be.
    """
    if facts.high - facts.low < _LEAST_RANGE:
        raise FormatError(
            f"the pixels of all tiles lie between {facts.low} and {facts.high}",
            _REMEDY,
            Reason.PICTURES_OUT_OF_RANGE,
        )
    for count, limit, reason, what in (
        (facts.constant, settings.constant_share, Reason.PICTURES_CONSTANT, "are of one colour"),
        (facts.blank, settings.blank_share, Reason.PICTURES_BLANK, "are blank"),
        (facts.repeated, settings.repeated_share, Reason.PICTURES_REPEATED, "are repeats"),
        (facts.alike, settings.alike_share, Reason.PICTURES_ALIKE, "look like another"),
    ):
        if count > limit * facts.tiles:
            raise FormatError(
                f"{count} of {facts.tiles} tiles {what}, and a share of {limit:g} may be",
                _REMEDY,
                reason,
            )
