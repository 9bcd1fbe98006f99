"""A run's settings with their paths, as its work folder keeps them: private, like the rest."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pixcell_share.errors import WorkFolderError
from pixcell_share.pixcell import SamplerSettings
from pixcell_share.slides import InkSettings, TilingSettings, TissueSettings
from site_agent.settings import SynthesisSettings

_PATHS = ("slides", "tiles", "out", "table", "coords", "features", "stores")


def dump_settings(settings: SynthesisSettings) -> str:
    """The settings as JSON; `load_settings` reads them back."""
    values = {k: v for k, v in asdict(settings).items() if k != "part"}
    return json.dumps(values, indent=2, default=lambda path: str(Path(path).resolve())) + "\n"


def load_settings(folder: Path) -> SynthesisSettings:
    """The settings of the run in the work folder ``folder``.

    Raises:
        WorkFolderError: it holds no run, or one of another version.
    """
    try:
        values: dict[str, Any] = json.loads((folder / "work" / "settings.json").read_text())
        return _settings(values)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise WorkFolderError(
            f"{folder} holds no run of `pixcell-site synthesize` that can be looked at again",
            "name the --out of a run; one of an earlier version has to be run again",
        ) from error


def _settings(values: dict[str, Any]) -> SynthesisSettings:
    tissue = dict(values.pop("tissue"))
    sampler = dict(values.pop("sampler"))
    if sampler["guidance_interval"] is not None:
        sampler["guidance_interval"] = tuple(sampler["guidance_interval"])
    paths = {name: values.pop(name) for name in _PATHS}
    given: dict[str, Any] = {n: p if p is None else Path(p) for n, p in paths.items()}
    return SynthesisSettings(
        tiling=TilingSettings(**values.pop("tiling")),
        tissue=TissueSettings(**{**tissue, "ink": InkSettings(**tissue["ink"])}),
        sampler=SamplerSettings(**sampler),
        trained_on=tuple(Path(store) for store in values.pop("trained_on")),
        **given,
        **values,
    )
