"""Evidence of what a synthetic cohort gives away: near copies of real tiles."""

from pixcell_share.privacy.control import ControlResult, ControlSettings, PlantedKind, run_control
from pixcell_share.privacy.correlate import aligned
from pixcell_share.privacy.fingerprints import TRANSFORMS, fingerprint
from pixcell_share.privacy.first_checks import first_checks
from pixcell_share.privacy.intervals import Share
from pixcell_share.privacy.near_copies import (
    NearCopyIndex,
    NearCopySettings,
    Nearest,
    RealTile,
)

__all__ = [
    "TRANSFORMS",
    "ControlResult",
    "ControlSettings",
    "NearCopyIndex",
    "NearCopySettings",
    "Nearest",
    "PlantedKind",
    "RealTile",
    "Share",
    "aligned",
    "fingerprint",
    "first_checks",
    "run_control",
]
