"""Evidence of what a synthetic cohort gives away, and the gate that judges it.

Names are imported when they are asked for: who only reads a site's limits, or its ledger, must not
wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pixcell_share.privacy.control import (
        ControlResult,
        ControlSettings,
        PlantedKind,
        run_control,
    )
    from pixcell_share.privacy.correlate import aligned
    from pixcell_share.privacy.fingerprints import TRANSFORMS, fingerprint
    from pixcell_share.privacy.gate_limits import GateLimits
    from pixcell_share.privacy.intervals import Estimate, Share
    from pixcell_share.privacy.near_copies import NearCopyIndex, Nearest, RealTile
    from pixcell_share.privacy.near_copy_settings import NearCopySettings
    from pixcell_share.privacy.sample import AuditSample, Tiles

__all__ = [
    "TRANSFORMS",
    "AuditSample",
    "ControlResult",
    "ControlSettings",
    "Estimate",
    "GateLimits",
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

_MODULES = {
    "TRANSFORMS": "fingerprints",
    "AuditSample": "sample",
    "ControlResult": "control_result",
    "ControlSettings": "control_result",
    "Estimate": "intervals",
    "GateLimits": "gate_limits",
    "NearCopyIndex": "near_copies",
    "NearCopySettings": "near_copy_settings",
    "Nearest": "near_copies",
    "PlantedKind": "control_result",
    "RealTile": "near_copies",
    "Share": "intervals",
    "Tiles": "sample",
    "aligned": "correlate",
    "fingerprint": "fingerprints",
    "run_control": "control",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
