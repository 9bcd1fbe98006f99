"""The encoders that the program knows, with their exact construction arguments.

Sources: the model cards and TRIDENT's and THUNDER's loaders for UNI2-h, Virchow2, H-optimus-1 and
KEEP; facebookresearch/dinov2 at b8931f7 for DINOv2. Parameter counts are in
``tests/encoders/test_registry.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from timm.layers import SwiGLUPacked
from torch import Tensor, nn

from pixcell_share.encoders.nano import NANO_FOLDER, folder_spec
from pixcell_share.encoders.remote_code import RemoteCodeSource
from pixcell_share.encoders.spec import EncoderSpec, Licence
from pixcell_share.encoders.texture import texture_spec
from pixcell_share.encoders.timm_source import TimmSource
from pixcell_share.encoders.torch_hub import TorchHubSource
from pixcell_share.encoders.transform import TileTransform

__all__ = ["ENCODERS"]

_HUGGING_FACE = "https://huggingface.co"
_DINOV2_DIMS = {"vits14": 384, "vitb14": 768, "vitl14": 1024, "vitg14": 1536}


def _class_and_mean_token(tokens: Tensor) -> Tensor:
    """Virchow2's embedding: tokens (B, 1 + 4 registers + 256, D) to (B, 2 D)."""
    return torch.cat([tokens[:, 0], tokens[:, 5:].mean(dim=1)], dim=-1)


def _uni2h() -> EncoderSpec:
    return EncoderSpec(
        name="uni2h",
        dim=1536,
        source=TimmSource(
            repo="MahmoodLab/UNI2-h",
            architecture="vit_giant_patch14_224",
            kwargs={
                "img_size": 224,
                "patch_size": 14,
                "depth": 24,
                "num_heads": 24,
                "init_values": 1e-5,
                "embed_dim": 1536,
                "mlp_ratio": 2.66667 * 2,
                "num_classes": 0,
                "no_embed_class": True,
                "mlp_layer": SwiGLUPacked,
                "act_layer": nn.SiLU,
                "reg_tokens": 8,
                "dynamic_img_size": True,
            },
        ),
        transform=TileTransform(interpolation="bilinear"),
        licence=_gated("CC-BY-NC-ND-4.0", "MahmoodLab/UNI2-h"),
    )


def _virchow2() -> EncoderSpec:
    return EncoderSpec(
        name="virchow2",
        dim=2560,
        source=TimmSource(
            repo="paige-ai/Virchow2",
            architecture="vit_huge_patch14_224",
            kwargs={
                "img_size": 224,
                "reg_tokens": 4,
                "mlp_ratio": 5.3375,
                "global_pool": "",
                "num_classes": 0,
                "init_values": 1e-5,
                "dynamic_img_size": True,
                "mlp_layer": SwiGLUPacked,
                "act_layer": nn.SiLU,
            },
        ),
        transform=TileTransform(),
        licence=_gated("CC-BY-NC-ND-4.0", "paige-ai/Virchow2"),
        pool=_class_and_mean_token,
    )


def _hoptimus1() -> EncoderSpec:
    return EncoderSpec(
        name="hoptimus1",
        dim=1536,
        source=TimmSource(
            repo="bioptimus/H-optimus-1",
            architecture="vit_giant_patch14_reg4_dinov2",
            kwargs={
                "img_size": 224,
                "global_pool": "token",
                "num_classes": 0,
                "init_values": 1e-5,
                "dynamic_img_size": False,
            },
        ),
        transform=TileTransform(
            mean=(0.707223, 0.578729, 0.703617), std=(0.211883, 0.230117, 0.177517)
        ),
        licence=_gated("CC-BY-NC-ND-4.0", "bioptimus/H-optimus-1"),
        cuda_dtype=torch.float16,
    )


def _keep() -> EncoderSpec:
    return EncoderSpec(
        name="keep",
        dim=768,
        source=RemoteCodeSource("Astaxanthin/KEEP"),
        transform=TileTransform(),
        licence=Licence("MIT", False, f"{_HUGGING_FACE}/Astaxanthin/KEEP"),
    )


def _dinov2(size: str, registers: bool) -> EncoderSpec:
    entry = f"dinov2_{size}{'_reg' if registers else ''}"
    return EncoderSpec(
        name=entry,
        dim=_DINOV2_DIMS[size],
        source=TorchHubSource(entry),
        transform=TileTransform(resize_px=256),
        licence=Licence("Apache-2.0", False, "https://github.com/facebookresearch/dinov2"),
    )


def _nano() -> EncoderSpec:
    return folder_spec("nano", NANO_FOLDER)


def _gated(terms: str, repo: str) -> Licence:
    return Licence(terms, noncommercial=True, page=f"{_HUGGING_FACE}/{repo}", gated=True)


class _Registry(Mapping[str, EncoderSpec]):
    """Specs by name, made when asked for: nano's are read from its folder."""

    def __init__(self, makers: Mapping[str, Callable[[], EncoderSpec]]) -> None:
        self._makers = makers

    def __getitem__(self, name: str) -> EncoderSpec:
        return self._makers[name]()

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def _dinov2_maker(size: str, registers: bool) -> Callable[[], EncoderSpec]:
    return lambda: _dinov2(size, registers)


ENCODERS: Mapping[str, EncoderSpec] = _Registry(
    {
        "nano": _nano,
        "texture": texture_spec,
        "uni2h": _uni2h,
        "virchow2": _virchow2,
        "hoptimus1": _hoptimus1,
        "keep": _keep,
        **{
            f"dinov2_{size}{'_reg' if registers else ''}": _dinov2_maker(size, registers)
            for size in _DINOV2_DIMS
            for registers in (False, True)
        },
    }
)
"""Every encoder by its name on the command line."""
