"""Inception-v3 as Fréchet Inception distances use it, with clean-fid's resizing.

The network is TensorFlow's of 2015-12-05, in the TorchScript form that StyleGAN2-ADA published and
clean-fid uses (Parmar et al., CVPR 2022, arXiv:2104.11222). It is not in this package and is never
downloaded: give the file.

Pictures are resized to 299 x 299 by PIL's antialiased bicubic filter, channel by channel in single
precision and without rounding to grey levels, then ``(x - 128) / 128``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pixcell_share.errors import WeightsMismatchError, WeightsMissingError
from pixcell_share.weights import LOCAL_SOURCE, ModelIdentity, digest_files

FILE = "inception-2015-12-05.pt"
"""Name of the published file."""
_PAGE = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/" + FILE
_SIDE = 299


class InceptionEncoder:
    """Turns tiles into the 2,048 features of Inception's last pooling.

    Args:
        path: the file, or a folder that holds `FILE`.
        device: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        WeightsMissingError: it is not there.
        WeightsMismatchError: it is no such network.
    """

    name = "inception"
    dim = 2048

    def __init__(self, path: Path, device: str | torch.device = "cpu") -> None:
        file = path / FILE if path.is_dir() else path
        if not file.is_file():
            raise WeightsMissingError(
                f"{file} is not there, and a Fréchet Inception distance needs it",
                f"get {FILE} from {_PAGE} and name the file; or compare with another encoder",
            )
        self.identity = ModelIdentity(
            "encoder", self.name, LOCAL_SOURCE, LOCAL_SOURCE, "not stated", False,
            digest_files([file]),
        )  # fmt: skip
        self._device = torch.device(device)
        self._layers = _layers(file, self._device)

    @torch.inference_mode()
    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features float32 (B, 2048) of tiles uint8 (B, H, W, 3)."""
        resized = np.stack([clean_resize(image) for image in images])
        pixels = torch.from_numpy(resized).permute(0, 3, 1, 2).contiguous().to(self._device)
        features = self._layers((pixels - 128) / 128).reshape(len(images), -1)
        if features.shape[1] != self.dim:
            raise WeightsMismatchError(
                f"the network gave {features.shape[1]} features, not {self.dim}",
                f"give {FILE} as it was published",
            )
        found: NDArray[np.float32] = features.float().cpu().numpy()
        return found


def clean_resize(image: NDArray[np.uint8], side: int = _SIDE) -> NDArray[np.float32]:
    """A tile (H, W, 3) as float32 (side, side, 3); it may leave 0 to 255 a little."""
    channels = (Image.fromarray(image[:, :, i].astype(np.float32)) for i in range(3))
    resized = [c.resize((side, side), Image.Resampling.BICUBIC) for c in channels]
    return np.stack([np.asarray(c, np.float32) for c in resized], axis=2)


def _layers(file: Path, device: torch.device) -> torch.jit.ScriptModule:
    """The part of the published module that does not resize."""
    try:
        module = torch.jit.load(str(file), map_location=device).eval()  # type: ignore[no-untyped-call]
        layers: torch.jit.ScriptModule = module.layers
    except (RuntimeError, AttributeError) as error:
        raise WeightsMismatchError(
            f"{file} is not the TorchScript Inception of StyleGAN2-ADA: {error}",
            f"get it from {_PAGE}",
        ) from error
    return layers
