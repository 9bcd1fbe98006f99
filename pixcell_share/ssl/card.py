"""What is told about a trained encoder: ``card.json`` for programs, ``card.md`` for people."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from pixcell_share import __version__
from pixcell_share.files import atomic_write_text
from pixcell_share.ssl.architectures import architecture
from pixcell_share.ssl.settings import SslSettings
from pixcell_share.ssl.sources import TileSource, digest_of

CARD = "card.json"
_SCHEMA = 1


@dataclass(frozen=True)
class SourceRecord:
    """One source of tiles, as the card names it: never a path."""

    name: str
    role: str
    """``real`` or ``synthetic``."""
    digest: str
    """Of the cohort, or over the names and sizes of its files."""
    tiles: int
    share: float
    """Of all tiles that the training saw."""
    licences: tuple[str, ...]
    noncommercial: bool


def records(sources: Sequence[TileSource]) -> list[SourceRecord]:
    """What the card says of the sources."""
    given = [source.settings.share for source in sources]
    weights = [
        len(source) if share is None else share
        for source, share in zip(sources, given, strict=True)
    ]
    return [
        SourceRecord(
            name=source.settings.name or source.settings.folder.name,
            role=source.settings.role,
            digest=digest_of(source),
            tiles=len(source),
            share=round(weight / sum(weights), 6),
            licences=source.settings.licences,
            noncommercial=source.settings.noncommercial,
        )
        for source, weight in zip(sources, weights, strict=True)
    ]


def licences_of(sources: Sequence[SourceRecord]) -> list[str]:
    """The terms of all sources, each once."""
    return sorted({licence for source in sources for licence in source.licences})


def build_card(
    name: str,
    settings: SslSettings,
    sources: Sequence[SourceRecord],
    step: int,
    loss: float | None,
    digests: Mapping[str, str],
) -> dict[str, Any]:
    """The card's content.

    Args:
        name: of the encoder.
        settings: of its training.
        sources: what it was trained on.
        step: steps done.
        loss: of the last step.
        digests: SHA-256 of each weight file.
    """
    shape = architecture(settings.architecture)
    return {
        "schema": _SCHEMA,
        "name": name,
        "architecture": shape.name,
        "torch_hub": shape.name if shape.published else None,
        "hub_arguments": shape.hub_arguments(),
        "dim": shape.width,
        "input_px": settings.crops.global_px,
        "data": [asdict(source) for source in sources],
        "licences": licences_of(sources),
        "noncommercial": any(source.noncommercial for source in sources),
        "steps": step,
        "tiles_seen": step * settings.global_batch,
        "last_loss": loss,
        "settings": asdict(settings),
        "files": dict(digests),
        "versions": {
            "pixcell-share": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in ("torch", "timm")},
        },
    }


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Write both files.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    text = json.dumps(card, indent=2, ensure_ascii=False, default=str) + "\n"
    atomic_write_text(folder / CARD, text)
    environment = Environment(undefined=StrictUndefined, autoescape=False)
    environment.filters["md"] = _escaped
    atomic_write_text(folder / "card.md", environment.from_string(_TEMPLATE).render(card=card))


def _escaped(value: object) -> str:
    """A name that others gave, as one table cell of plain text."""
    text = " ".join(str(value).split())
    for sign in "\\`*_[]<>|#":
        text = text.replace(sign, "\\" + sign)
    return text


_TEMPLATE = """\
# Encoder {{ card.name|md }}

{{ card.architecture }}, trained from scratch with DINOv2's method by pixcell-share \
{{ card.versions["pixcell-share"] }}: {{ "{:,}".format(card.steps) }} steps, \
{{ "{:,}".format(card.tiles_seen) }} tiles seen. It turns a tile, seen at \
{{ card.input_px }} x {{ card.input_px }} px, into {{ card.dim }} numbers.

## Data

| source | role | tiles | share | licences | digest |
|---|---|---|---|---|---|
{% for source in card.data -%}
| {{ source.name|md }} | {{ source.role }} | {{ source.tiles }} | \
{{ "%.1f%%"|format(100 * source.share) }} | \
{{ source.licences|join(", ")|md }}{{ " (no commercial use)" if source.noncommercial }} | \
`{{ source.digest|md }}` |
{% endfor %}
Labels were not read.

## Terms

{% if card.noncommercial -%}
The terms of a source carry over: **no commercial use** of this encoder. Read the licences above.
{%- else -%}
The terms of the sources carry over. Read the licences above.
{%- endif %}

## Loading

```python
from pixcell_share.encoders import load_encoder
load_encoder("path/of/this/folder")
```

{% if card.torch_hub -%}
`model.pth` and `model.safetensors` hold the state dict of \
`torch.hub.load("facebookresearch/dinov2", "{{ card.torch_hub }}")`, for `load_state_dict` with \
`strict=True`.
{%- else -%}
`torch.hub` has no model of this size. `model.pth` and `model.safetensors` load strictly into \
DINOv2's `DinoVisionTransformer` with these arguments: `{{ card.hub_arguments }}`.
{%- endif %} `timm/` holds the same weights for timm, for images of {{ card.input_px }} px.

## What it is not

No diagnosis may rest on it. How well it does on a task is not known before it is evaluated; what \
an attacker can learn from it about the tiles it was trained on has not been measured.

## Settings

Every setting, the versions and the digests of the files are in `card.json`.
"""
