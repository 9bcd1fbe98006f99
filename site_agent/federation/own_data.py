"""The slides or tiles that rounds work on, as the site's policy names them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from site_agent.federation.desk import Desk

if TYPE_CHECKING:
    from site_agent.settings import SynthesisSettings


def data_settings(desk: Desk, out: Path, **more: Any) -> SynthesisSettings:
    """Settings of the main job on the site's own data.

    Args:
        desk: the site.
        out: the work folder.
        more: other settings.
    """
    from site_agent.settings import SynthesisSettings

    policy = desk.policy
    return SynthesisSettings(
        slides=_path(policy.slides),
        tiles=_path(policy.tiles),
        table=_path(policy.table),
        patient_column=policy.patient_column,
        label_column=policy.label_column,
        encoder=policy.encoder or None,
        weights=policy.weights or None,
        device=policy.device,
        out=out,
        **more,
    )


def _path(text: str) -> Path | None:
    return Path(text) if text else None
