"""Hand an encoder of ours to Thunder: a Python file and its weights, which need only timm.

``thunder benchmark custom:FOLDER/NAME.py DATASET TASK`` runs it. Thunder (thunder-bench 0.2.2)
wants exactly one subclass of ``thunder.models.PretrainedModel`` in the file, made without
arguments.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from string import Template
from typing import Any

from safetensors.torch import save_file

from pixcell_share.encoders import Encoder, LoadRequest
from pixcell_share.encoders.nano import FolderSource
from pixcell_share.errors import SettingsError
from pixcell_share.files import atomic_path, atomic_write_text

_FILE = Template(
    '''\
"""$name for thunder-bench, written by pixcell-share.

Licence of the weights: $licence. SHA-256 of the files they come from: $sha256
"""

import json
from pathlib import Path

import timm
from safetensors.torch import load_file
from thunder.models import PretrainedModel
from torchvision import transforms

CONFIG = json.loads(
    r"""
$config
"""
)
WEIGHTS = Path(__file__).resolve().with_name("$weights")


class ExportedEncoder(PretrainedModel):
    """The encoder with its weights."""

    def __init__(self):
        super().__init__()
        self.name = CONFIG["name"]
        self.emb_dim = CONFIG["dim"]
        self.vlm = False
        if CONFIG["architecture"] == "vit":
            build = timm.models.vision_transformer.VisionTransformer
            self.model = build(**CONFIG["kwargs"])
        else:
            self.model = timm.create_model(CONFIG["architecture"], **CONFIG["kwargs"])
        self.model.load_state_dict(load_file(WEIGHTS))
        self.eval()

    def get_transform(self):
        """From a PIL image to what the model sees."""
        return transforms.Compose(
            [
                transforms.Resize(
                    CONFIG["resize_px"],
                    interpolation=transforms.InterpolationMode(CONFIG["interpolation"]),
                ),
                transforms.CenterCrop(CONFIG["input_px"]),
                transforms.ToTensor(),
                transforms.Normalize(CONFIG["mean"], CONFIG["std"]),
            ]
        )

    def get_linear_probing_embeddings(self, x):
        """(B, emb_dim) of images (B, 3, H, W)."""
        return self.model(x)

    def get_segmentation_embeddings(self, x):
        """(B, N, emb_dim), one embedding for each patch, row by row."""
        return self.model.forward_features(x)[:, self.model.num_prefix_tokens :]
'''
)


def export_thunder_model(encoder: Encoder, folder: Path) -> Path:
    """Write ``NAME.py`` and ``NAME.safetensors`` into ``folder``.

    Args:
        encoder: one that a folder describes (`pixcell_share.encoders.nano`): ``nano`` and what the
            hub trains. Thunder knows the well-known ones itself.
        folder: made where it is not there.

    Returns:
        The Python file.

    Raises:
        SettingsError: the encoder is of another kind.
        StorageError: the disk is full, or the folder cannot be written.
    """
    source = encoder.spec.source
    if not isinstance(source, FolderSource):
        raise SettingsError(
            f"{encoder.name} is not described by a folder, so no file for Thunder can be written",
            "use Thunder's own name for it, or export nano or an encoder of the hub",
        )
    config = json.dumps(_config(encoder, source), indent=2, sort_keys=True)
    stem = re.sub(r"[^A-Za-z0-9_]", "_", encoder.name)
    weights = f"{stem}.safetensors"
    with atomic_path(folder / weights) as temporary:
        save_file(source.load(LoadRequest()).module.state_dict(), temporary)
    text = _FILE.substitute(
        name=_plain(encoder.name),
        licence=_plain(encoder.identity.licence),
        sha256=encoder.identity.sha256,
        config=config,
        weights=weights,
    )
    atomic_write_text(folder / f"{stem}.py", text)
    return folder / f"{stem}.py"


def _config(encoder: Encoder, source: FolderSource) -> dict[str, Any]:
    transform = encoder.spec.transform
    described = json.loads((source.folder / "config.json").read_text(encoding="utf-8"))
    return {
        "name": encoder.name,
        "dim": encoder.dim,
        "architecture": described["architecture"],
        "kwargs": described["kwargs"],
        "resize_px": transform.resize_px or transform.input_px,
        "input_px": transform.input_px,
        "interpolation": transform.interpolation,
        "mean": transform.mean,
        "std": transform.std,
    }


def _plain(text: str) -> str:
    """Without what could end a docstring."""
    return re.sub(r'["\\\n]', " ", text)
