"""A training as one JSON file, for ``torchrun`` and Slurm.

::

    {"settings": {"architecture": "tiny", "schedule": {"steps": 600}, ...},
     "sources": [{"folder": "/data/a", "role": "real"}, ...],
     "out": "/runs/one", "name": "one"}

Settings that are not named keep their defaults; ``"preset": "small"`` beside them gives those of
a preset.
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pixcell_share.errors import SettingsError
from pixcell_share.files import atomic_write_text
from pixcell_share.ssl.presets import preset
from pixcell_share.ssl.settings import SslSettings
from pixcell_share.ssl.sources import SourceSettings

T = TypeVar("T")
_KEYS = {"preset", "settings", "sources", "out", "name"}


@dataclass(frozen=True)
class SslJob:
    """The arguments of `train_encoder`."""

    settings: SslSettings
    sources: tuple[SourceSettings, ...]
    out: Path
    """Folder of the run."""
    name: str = ""
    """Of the encoder."""


def write_job(path: Path, job: SslJob) -> None:
    """Write a job; `read_job` gives it back.

    Raises:
        StorageError: the folder cannot be written.
    """
    text = json.dumps(asdict(job), indent=2, ensure_ascii=False, default=str) + "\n"
    atomic_write_text(path, text)


def read_job(path: Path) -> SslJob:
    """Read a job.

    Raises:
        SettingsError: the file is no JSON object of this form; names the first wrong entry.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        _check_keys(value, _KEYS, str(path))
        start = preset(value["preset"]) if "preset" in value else SslSettings()
        sources = tuple(_made(SourceSettings, each, "sources") for each in value["sources"])
        settings = updated(start, value.get("settings", {}))
        return SslJob(settings, sources, Path(value["out"]), str(value.get("name", "")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"{path} describes no training: {error!r}",
            "write it as pixcell_share/ssl/job.py describes it",
        ) from error


def updated(settings: T, values: Mapping[str, Any], where: str = "settings") -> T:
    """Settings with some of their fields changed, also inside nested settings.

    Args:
        settings: a frozen dataclass.
        values: new values, as JSON gives them.
        where: for messages.

    Raises:
        SettingsError: no field has such a name, or a value is of another type.
    """
    hints = get_type_hints(type(settings))
    _check_keys(values, hints, where)
    changes: dict[str, Any] = {}
    for name, value in values.items():
        place, old = f"{where}.{name}", getattr(settings, name)
        if is_dataclass(old) and isinstance(value, Mapping):
            changes[name] = updated(old, value, place)
        else:
            changes[name] = _fitting(hints[name], value, place)
    return replace(settings, **changes)  # type: ignore[type-var]


def _fitting(kind: Any, value: Any, where: str) -> Any:
    """A JSON value as a field's type."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _first_fitting(inner, value, where)
    if origin is Literal:
        fits = value in inner
    elif origin is tuple:
        return _tuple(inner, value, where)
    elif is_dataclass(kind) and isinstance(value, Mapping):
        return _made(kind, value, where)
    elif kind is Path:
        return Path(value)
    elif kind is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    else:
        fits = type(value) is kind
    if not fits:
        raise SettingsError(f"{where} is {value!r}", f"give it a value of type {kind}")
    return value


def _tuple(inner: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
    if not isinstance(value, list | tuple) or len(kinds) != len(value):
        raise SettingsError(f"{where} is {value!r}", f"give it {len(kinds)} values")
    return tuple(_fitting(kind, each, where) for kind, each in zip(kinds, value, strict=True))


def _first_fitting(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    return _fitting(next(kind for kind in kinds if kind is not type(None)), value, where)


def _made(kind: Any, values: Mapping[str, Any], where: str) -> Any:
    hints = get_type_hints(kind)
    _check_keys(values, hints, where)
    return kind(**{k: _fitting(hints[k], v, f"{where}.{k}") for k, v in values.items()})


def _check_keys(values: Mapping[str, Any], known: Any, where: str) -> None:
    unknown = [key for key in values if key not in known]
    if unknown:
        raise SettingsError(
            f"{where} has no entry {unknown[0]!r}", f"choose from {', '.join(sorted(known))}"
        )
