"""Evidence of what a synthetic cohort gives away, and the gate that judges it."""

from pixcell_share.privacy.control import ControlResult, ControlSettings, PlantedKind, run_control
from pixcell_share.privacy.correlate import aligned
from pixcell_share.privacy.fingerprints import TRANSFORMS, fingerprint
from pixcell_share.privacy.intervals import Estimate, Share
from pixcell_share.privacy.near_copies import (
    NearCopyIndex,
    NearCopySettings,
    Nearest,
    RealTile,
)
from pixcell_share.privacy.sample import AuditSample, Tiles

__all__ = [
    "TRANSFORMS",
    "AuditSample",
    "ControlResult",
    "ControlSettings",
    "Estimate",
    "NearCopyIndex",
    "NearCopySettings",
    "Nearest",
    "PlantedKind",
    "RealTile",
    "Share",
    "Tiles",
    "aligned",
    "fingerprint",
    "run_control",
]
