"""The sizes of transformers that can be trained, by name.

``dinov2_*`` are those of DINOv2's ``hubconf.py``: their state dicts load strictly into what
``torch.hub.load("facebookresearch/dinov2", name)`` builds. ``tiny`` and ``small16`` are our own,
for machines without a GPU; ``torch.hub`` has no entry for them, but DINOv2's class takes them with
the arguments of `Architecture.hub_arguments`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pixcell_share.errors import SettingsError


@dataclass(frozen=True)
class Architecture:
    """A vision transformer."""

    name: str
    width: int
    """Channels of a token."""
    depth: int
    """Number of blocks."""
    heads: int
    """Of each attention."""
    patch: int = 14
    """Side of a patch in pixels."""
    registers: int = 0
    """Register tokens (Darcet et al., arXiv:2309.16588)."""
    gated: bool = False
    """SwiGLU in place of GELU."""
    image_px: int = 518
    """Side of the image whose grid of patches the position embeddings have."""
    published: bool = True
    """Whether ``torch.hub`` knows the name."""
    timm_name: str | None = None
    """timm's name; None: timm's ``VisionTransformer`` with arguments."""

    @property
    def hidden(self) -> int:
        """Rows of a feed-forward layer, before `gated` makes it narrower."""
        return 4 * self.width

    @property
    def grid(self) -> int:
        """Patches along a side of the position embeddings."""
        return self.image_px // self.patch

    @property
    def antialias(self) -> bool:
        """How position embeddings are resampled: DINOv2's models with registers do it better."""
        return self.registers > 0

    @property
    def offset(self) -> float:
        """What DINOv2's models without registers add to the number of patches when resampling."""
        return 0.0 if self.registers else 0.1

    def hub_arguments(self) -> dict[str, Any]:
        """Arguments of DINOv2's ``DinoVisionTransformer`` that the state dict belongs to."""
        return {
            "img_size": self.image_px,
            "patch_size": self.patch,
            "embed_dim": self.width,
            "depth": self.depth,
            "num_heads": self.heads,
            "mlp_ratio": 4,
            "init_values": 1.0,
            "ffn_layer": "swiglufused" if self.gated else "mlp",
            "block_chunks": 0,
            "num_register_tokens": self.registers,
            "interpolate_antialias": self.antialias,
            "interpolate_offset": self.offset,
        }


def _published() -> list[Architecture]:
    sizes = {
        "vits14": ("vit_small", 384, 12, 6, False),
        "vitb14": ("vit_base", 768, 12, 12, False),
        "vitl14": ("vit_large", 1024, 24, 16, False),
        "vitg14": ("vit_giant", 1536, 40, 24, True),
    }
    found = []
    for size, (timm_size, width, depth, heads, gated) in sizes.items():
        for registers, end, timm_end in ((0, "", ""), (4, "_reg", "_reg4")):
            found.append(
                Architecture(
                    f"dinov2_{size}{end}", width, depth, heads, registers=registers, gated=gated,
                    timm_name=f"{timm_size}_patch14{timm_end}_dinov2",
                )
            )  # fmt: skip
    return found


_OWN = (
    Architecture("tiny", 192, 4, 3, patch=8, image_px=64, published=False),
    Architecture("small16", 384, 6, 6, patch=16, image_px=224, published=False),
)

ARCHITECTURES: dict[str, Architecture] = {each.name: each for each in (*_published(), *_OWN)}
"""Every architecture by name."""


def architecture(name: str) -> Architecture:
    """The architecture of a name.

    Raises:
        SettingsError: there is none.
    """
    if name not in ARCHITECTURES:
        raise SettingsError(
            f"there is no architecture {name!r}", f"choose one of {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[name]
