"""What an operator asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pixcell_share.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class RealData:
    """Real tiles of the operator's own."""

    folder: Path
    """Of pictures, or of HDF5 shards with ``images``."""
    licences: tuple[str, ...] = ()
    """Terms that they come with."""
    noncommercial: bool = False
    """Whether one of them forbids commercial use."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """One training: from which tiles, and how."""

    cohorts: tuple[str, ...] = ()
    """Each a digest, its first eight or more digits, or the name of a site that has one accepted
    cohort; ``:synthetic`` may follow."""
    real: tuple[RealData, ...] = ()
    name: str = ""
    """Of the encoder; by default architecture and job."""
    arch: str | None = None
    """A name of `pixcell_share.ssl.ARCHITECTURES`; None: the preset's."""
    preset: str = "small"
    """A name of `pixcell_share.ssl.PRESETS`."""
    steps: int | None = None
    """Of the training; the preset's warm-up and what else is counted in steps go with them. None:
    the preset's."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Other settings of `pixcell_share.ssl.SslSettings`, nested as in its JSON."""


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """One evaluation."""

    encoder: str
    """Name or id of an encoder of this hub, a registered encoder, or the folder of one."""
    dataset: str
    """As `pixcell_share.evaluation.open_dataset` takes it."""
    task: str = "knn"
    """``knn``, ``linear_probing`` or ``simple_shot``."""
    base: Path | None = None
    """Thunder's base folder, for a data set by name."""
    images: Path | None = None
    """Folder of the pictures of a split file."""
    weights: str | None = None
    """Folder or repository of a registered encoder's weights."""
    device: str = "auto"

    def to_json(self) -> str:
        """For the job's folder."""
        return json.dumps(asdict(self), indent=2, default=str) + "\n"

    @classmethod
    def read(cls, path: Path) -> EvaluateSettings:
        """What `to_json` wrote.

        Raises:
            SettingsError: the file is gone or damaged.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            for name in ("base", "images"):
                values[name] = Path(values[name]) if values[name] is not None else None
            return cls(**values)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise SettingsError(
                f"{path.name} of the job cannot be read: {error!r}", "evaluate again"
            ) from error
