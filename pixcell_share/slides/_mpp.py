"""Where the µm/px of a slide comes from: the file first, then what the user gave."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pixcell_share.errors import MppMissingError

MIN_MPP, MAX_MPP = 0.05, 20.0
"""Resolutions outside this range come from no slide scanner: 100x oil is about 0.1 µm/px."""

_MAX_ANISOTROPY = 0.02
_MAX_DISAGREEMENT = 0.05


@dataclass(frozen=True)
class Resolution:
    """µm/px of level 0, and where it comes from."""

    mpp: float
    source: str
    """``file``, or ``given`` (the ``mpp`` column of the table, or ``--mpp``)."""
    note: str | None = None


def is_plausible(mpp: float) -> bool:
    """Whether ``mpp`` µm/px can be a slide's resolution."""
    return math.isfinite(mpp) and MIN_MPP < mpp < MAX_MPP


def resolve_mpp(name: str, properties: Mapping[str, str], given: float | None) -> Resolution:
    """The slide's µm/px; never a guess from the objective's power.

    Args:
        name: file name, for the messages.
        properties: OpenSlide's properties. OpenSlide itself fills ``openslide.mpp-x`` and ``-y``
            from a generic TIFF's resolution tags when they have a unit.
        given: what the table or ``--mpp`` says.

    Raises:
        MppMissingError: neither the file nor the user says a plausible value.
    """
    stored, reason = _stored_mpp(properties)
    if stored is None and given is None:
        raise MppMissingError(
            f"{name}: {reason}",
            "give its µm/px with --mpp, or in the mpp column of slides.csv",
        )
    if stored is None:
        assert given is not None
        return Resolution(given, "given")
    return Resolution(stored, "file", _disagreement(stored, given))


def _stored_mpp(properties: Mapping[str, str]) -> tuple[float | None, str]:
    """The file's µm/px, or why it has none."""
    texts = [properties.get(f"openslide.mpp-{axis}") for axis in "xy"]
    if None in texts:
        return None, "the file does not say its µm/px"
    try:
        x, y = (float(text or "") for text in texts)
    except ValueError:
        return None, f"the file's µm/px is no number ({texts[0]!r}, {texts[1]!r})"
    if not (is_plausible(x) and is_plausible(y)):
        return None, f"the file says {x:g} x {y:g} µm/px, which no slide scanner has"
    if abs(x - y) > _MAX_ANISOTROPY * min(x, y):
        return None, f"the file says {x:g} µm/px across and {y:g} down: pixels are not square"
    return (x + y) / 2, ""


def _disagreement(stored: float, given: float | None) -> str | None:
    if given is None or abs(given - stored) <= _MAX_DISAGREEMENT * stored:
        return None
    return f"the file says {stored:g} µm/px, you gave {given:g}: the file's value was used"
