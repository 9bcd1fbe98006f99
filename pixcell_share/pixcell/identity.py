"""Which weights were loaded, and under which terms: what a bundle says about the generator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import metadata_load

from pixcell_share.pixcell.load import weight_files
from pixcell_share.pixcell.lora import lora_file
from pixcell_share.weights import (
    LOCAL_SOURCE,
    PACKAGE_SOURCE,
    Located,
    ModelIdentity,
    digest_files,
)

VAE_REPO = "stabilityai/stable-diffusion-3.5-large"
"""Holds the VAE of the released PixCell models, in its sub-folder ``vae``."""


@dataclass(frozen=True)
class _Terms:
    licence: str
    noncommercial: bool


_UNKNOWN = _Terms("unknown (local weights)", noncommercial=True)
_PACKAGED = _Terms("Apache-2.0", noncommercial=False)
_PIXCELL = _Terms("CC-BY-NC-ND-4.0", noncommercial=True)
# Free of charge also for commercial use, below a yearly revenue of 1,000,000 USD.
_STABILITY = _Terms("Stability AI Community License", noncommercial=False)


def identify(role: str, located: Located, folder: Path) -> ModelIdentity:
    """The identity of one model.

    Args:
        role: ``generator`` or ``vae``.
        located: where `pixcell_share.weights.locate` found it.
        folder: the folder of its weight files.
    """
    terms = _terms(located)
    return ModelIdentity(
        role=role,
        name=_name(located),
        source=located.source,
        revision=located.revision,
        licence=terms.licence,
        noncommercial=terms.noncommercial,
        sha256=digest_files(weight_files(folder)),
    )


def identify_adapter(lora: str | Path) -> ModelIdentity:
    """The identity of a LoRA, under the terms of the card beside it, else unknown."""
    path = lora_file(Path(lora).expanduser())
    terms = _card_terms(path.parent / "README.md") or _UNKNOWN
    return ModelIdentity(
        role="adapter",
        name="local",
        source=LOCAL_SOURCE,
        revision=LOCAL_SOURCE,
        licence=terms.licence,
        noncommercial=terms.noncommercial,
        sha256=digest_files([path]),
    )


def _name(located: Located) -> str:
    if located.source != PACKAGE_SOURCE:
        return located.source.rpartition("/")[2]
    size = located.folder.name.removeprefix("weights")  # the folders are weights and weights-1024
    return f"nano{size}"


def _terms(located: Located) -> _Terms:
    """The terms of a known repository, else of the card beside the weights, else unknown."""
    if located.source.startswith("StonyBrook-CVLab/PixCell-"):
        return _PIXCELL
    if located.source == VAE_REPO:
        return _STABILITY
    if located.source == PACKAGE_SOURCE:
        return _PACKAGED
    return _card_terms(located.folder / "README.md") or _UNKNOWN


def _card_terms(card: Path) -> _Terms | None:
    """The ``license`` of a Hub model card; terms of its own (``other``) forbid until read."""
    metadata = _metadata(card)
    licence = metadata.get("license")
    if not isinstance(licence, str):
        return None
    if licence == "other":
        return _Terms(str(metadata.get("license_name", "other")), noncommercial=True)
    return _Terms(licence, noncommercial="-nc" in licence.lower())


def _metadata(card: Path) -> dict[str, Any]:
    try:
        return metadata_load(card) or {}
    except Exception:
        return {}  # a card without terms, or with unreadable ones, leaves them unknown
