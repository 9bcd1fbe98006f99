"""Encoders that were trained here: the folder that `pixcell_share.ssl` exports.

Its ``timm/`` describes itself (`pixcell_share.encoders.nano` says how); ``name`` in its
configuration is the encoder's name.
"""

from __future__ import annotations

import json
from pathlib import Path

from pixcell_share.encoders.nano import folder_spec
from pixcell_share.encoders.spec import EncoderSpec

_CONFIG = "config.json"


def trained_folder(name: str) -> Path | None:
    """The self-describing folder that ``name`` means, or None where it is no such folder."""
    folder = Path(name).expanduser()
    places = (folder / "timm", folder)
    return next((place for place in places if (place / _CONFIG).is_file()), None)


def trained_spec(folder: Path) -> EncoderSpec:
    """The spec of such a folder; its name is the encoder's, never a path.

    Raises:
        WeightsMissingError: the folder has no ``model.safetensors``.
        WeightsMismatchError: the configuration does not describe an encoder.
    """
    spec = folder_spec("trained", folder)
    name = json.loads((folder / _CONFIG).read_text(encoding="utf-8")).get("name")
    return folder_spec(str(name), folder) if name else spec
