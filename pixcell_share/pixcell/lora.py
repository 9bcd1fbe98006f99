"""LoRA on the cross-attention of a PixCell transformer, by peft (Hu et al., arXiv:2106.09685).

Files come in two forms. One holds the adapter alone: two matrices for each adapted layer, 224
tensors of 1,032,192 numbers for the released size at rank 4. The other holds the whole model with
the adapter in it (829 tensors), as the script of PixCell's virtual staining saves it. Both load,
with peft's adapter name ``.default`` in their keys or without.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from pixcell_share.errors import (
    SettingsError,
    WeightsError,
    WeightsMismatchError,
    WeightsMissingError,
)
from pixcell_share.pixcell.load import MAY_BE_MISSING, fill_strictly
from pixcell_share.pixcell.pickled import read_pickled
from pixcell_share.pixcell.purpose import check_purpose
from pixcell_share.pixcell.tensors import write_tensors
from pixcell_share.pixcell.transformer import PixCellTransformer2DModel

TARGETS = ("attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0")
"""The cross-attention's four projections: what PixCell's LoRAs adapt."""
ADAPTER = "default"
RANK = 4
ALPHA = 4.0

_FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors", "lora.safetensors")
_DIFFUSERS_METADATA = "lora_adapter_metadata"
"""Where diffusers keeps the ``LoraConfig`` in a file's metadata."""
_PREFIX = re.compile(r"^(?:module\.|base_model\.model\.|transformer\.(?!_))+")
_LORA_KEY = re.compile(r"^(?P<layer>.+)\.lora_(?P<matrix>[AB])(?:\.[^.]+)?\.weight$")
_REMEDY = "name a LoRA that was trained for this generator"


@dataclass(frozen=True)
class LoraInfo:
    """What is known of an adapter."""

    rank: int
    """``r``: inner dimension of the two matrices."""
    alpha: float
    """The adapter's output is scaled by ``alpha / rank``."""
    tensors: int
    """Matrices in the file: two for each adapted layer."""
    whole_model: bool
    """Whether the file also held the weights of the model, which then replaced those loaded."""
    base_sha256: str = ""
    """Digest of the weights that it was trained on, where the file says so."""


@dataclass(frozen=True)
class _LoraFile:
    lora: dict[str, Tensor]
    """``LAYER.lora_A`` and ``LAYER.lora_B`` to their matrices."""
    model: dict[str, Tensor]
    """The model's own weights, if the file holds them."""
    metadata: Mapping[str, str]

    @property
    def layers(self) -> list[str]:
        return sorted({key.rpartition(".")[0] for key in self.lora})


def add_lora(
    transformer: PixCellTransformer2DModel,
    rank: int = RANK,
    alpha: float = ALPHA,
    *,
    seed: int = 0,
) -> list[nn.Parameter]:
    """Add a fresh adapter to the cross-attention, and freeze everything else.

    The first matrix of a layer is drawn with deviation ``1 / rank``, the second is zero, so that
    the model's output is at first unchanged.

    Args:
        transformer: changed in place.
        rank: inner dimension of the matrices.
        alpha: the adapter's output is scaled by ``alpha / rank``.
        seed: of the draw; the global random state stays as it was.

    Returns:
        The parameters to train, float32.

    Raises:
        SettingsError: the rank or alpha is impossible, or there is an adapter already.
    """
    if rank < 1 or not alpha > 0:
        raise SettingsError(f"LoRA of rank {rank} and alpha {alpha}", "use rank 4 and alpha 4")
    devices = [transformer.device] if transformer.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        _inject(transformer, list(TARGETS), rank, alpha)
    return [value for value in transformer.parameters() if value.requires_grad]


def load_lora(
    transformer: PixCellTransformer2DModel, path: str | Path, *, alpha: float | None = None
) -> LoraInfo:
    """Load an adapter into a transformer; `merge_lora` then makes it part of the weights.

    Args:
        transformer: changed in place. A file with the whole model replaces its weights too.
        path: a ``.safetensors`` or pickled file, or a folder that holds one.
        alpha: overrides what the file says. Where neither says it, alpha is the rank: all
            published PixCell LoRAs have rank 4 and alpha 4.

    Raises:
        WeightsError: the file is missing or damaged, or a pickle with code in it.
        WeightsMismatchError: it is not an adapter, or one of another model.
        SettingsError: there is an adapter already.
    """
    source = lora_file(Path(path).expanduser())
    file = _read(source)
    if not file.lora:
        raise WeightsMismatchError(f"{source} holds no LoRA matrices", _REMEDY)
    rank = _check_shapes(transformer, file, source)
    if file.model:
        check_purpose(transformer, file.model, source)
        fill_strictly(transformer, file.model, source, may_be_missing=MAY_BE_MISSING, assign=False)
    scale = alpha if alpha is not None else float(file.metadata.get("alpha", rank))
    _inject(transformer, file.layers, rank, scale)
    _copy(transformer, file.lora)
    base = file.metadata.get("base_sha256", "")
    return LoraInfo(rank, scale, len(file.lora), bool(file.model), base)


def lora_state(transformer: PixCellTransformer2DModel) -> dict[str, Tensor]:
    """The adapter's matrices by their names in a file, ``LAYER.lora_A.weight`` (no copies)."""
    state: dict[str, Tensor] = {}
    for name, layer in _layers(transformer).items():
        state[f"{name}.lora_A.weight"] = layer.lora_A[ADAPTER].weight.detach()
        state[f"{name}.lora_B.weight"] = layer.lora_B[ADAPTER].weight.detach()
    return state


def fill_lora(transformer: PixCellTransformer2DModel, state: Mapping[str, Tensor]) -> None:
    """Give the adapter's matrices other values, by the names of `lora_state`.

    Raises:
        WeightsMismatchError: names or shapes are not the adapter's.
    """
    own = lora_state(transformer)
    if own.keys() != state.keys() or any(own[k].shape != v.shape for k, v in state.items()):
        raise WeightsMismatchError("the LoRA is one of another generator or rank", _REMEDY)
    for name, value in own.items():
        value.copy_(state[name])


def save_lora(transformer: PixCellTransformer2DModel, path: Path, *, base_sha256: str = "") -> Path:
    """Write the adapter alone, with its rank, alpha and base model in the file's metadata.

    Args:
        transformer: with an adapter.
        path: a ``.safetensors`` file.
        base_sha256: digest of the weights that it was trained on (`digest_files`).

    Raises:
        SettingsError: there is no adapter.
        StorageError: it cannot be written.
    """
    layers = _layers(transformer)
    if not layers:
        raise SettingsError("there is no LoRA to save", "add one with add_lora first")
    one = next(iter(layers.values()))
    rank, alpha = int(one.r[ADAPTER]), float(one.lora_alpha[ADAPTER])
    kinds = sorted({_kind(name) for name in layers})
    config = {"r": rank, "lora_alpha": alpha, "target_modules": kinds}
    metadata = {
        "format": "pt",
        "rank": str(rank),
        "alpha": repr(alpha),
        "base_sha256": base_sha256,
        _DIFFUSERS_METADATA: json.dumps(config),
    }
    state = {key: value.cpu().contiguous() for key, value in lora_state(transformer).items()}
    write_tensors(path, state, metadata)
    return path


def merge_lora(transformer: PixCellTransformer2DModel) -> None:
    """Add the adapter to the weights and remove it: sampling then costs nothing more.

    Do it in float32, before the model is cast; the difference may be too small for less.
    """
    transformer.fuse_lora()
    transformer.unload_lora()


def lora_file(path: Path) -> Path:
    """The file of a LoRA, where its folder may have been named.

    Raises:
        WeightsMissingError: there is none.
    """
    found = [path / name for name in _FILES if (path / name).is_file()] if path.is_dir() else [path]
    if not found or not found[0].is_file():
        raise WeightsMissingError(
            f"{path} is no LoRA file, nor a folder with one of {', '.join(_FILES)}",
            "name the file itself",
        )
    return found[0]


def _inject(
    transformer: PixCellTransformer2DModel, targets: list[str], rank: int, alpha: float
) -> None:
    if _layers(transformer):
        raise SettingsError(
            "this transformer has a LoRA already", "merge it with merge_lora, or load anew"
        )
    # peft wants a whole alpha in its annotation only; it divides by the rank.
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=targets,
        lora_dropout=0.0,
        init_lora_weights="gaussian",
    )
    transformer.add_adapter(config, adapter_name=ADAPTER)


def _layers(transformer: nn.Module) -> dict[str, LoraLayer]:
    return {name: m for name, m in transformer.named_modules() if isinstance(m, LoraLayer)}


def _kind(name: str) -> str:
    """``transformer_blocks.3.attn2.to_q`` is an ``attn2.to_q``."""
    return re.sub(r"^transformer_blocks\.\d+\.", "", name)


def _copy(transformer: PixCellTransformer2DModel, matrices: Mapping[str, Tensor]) -> None:
    layers = _layers(transformer)
    with torch.no_grad():
        for key, value in matrices.items():
            name, _, matrix = key.rpartition(".")
            getattr(layers[name], matrix)[ADAPTER].weight.copy_(value)


def _read(path: Path) -> _LoraFile:
    state, metadata = _tensors(path)
    beside = path.parent / "adapter_config.json"
    config = metadata.get(_DIFFUSERS_METADATA)
    if config is None and beside.is_file():
        config = beside.read_text(encoding="utf-8", errors="replace")
    if config is not None:
        metadata = {**metadata, "alpha": _config_alpha(config, path)}
    lora: dict[str, Tensor] = {}
    model: dict[str, Tensor] = {}
    for key, value in state.items():
        name = _PREFIX.sub("", key)
        found = _LORA_KEY.match(name)
        if found:
            lora[f"{found['layer']}.lora_{found['matrix']}"] = value
        else:
            model[name.replace(".base_layer.", ".")] = value
    return _LoraFile(lora, model, metadata)


def _tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if path.suffix != ".safetensors":
        content = read_pickled(path)
        if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
            content = content["state_dict"]
        if not isinstance(content, dict) or not all(
            isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
        ):
            raise WeightsMismatchError(f"{path} is not a dictionary of tensors", _REMEDY)
        return content, {}
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read: {error}", "get the file again") from error


def _config_alpha(config: str, path: Path) -> str:
    """``lora_alpha`` of a ``LoraConfig`` as JSON, in the metadata or beside the file."""
    try:
        return str(float(json.loads(config)["lora_alpha"]))
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"the LoraConfig of {path} has no lora_alpha: {error!r}", "get the files again"
        ) from error


def _check_shapes(transformer: PixCellTransformer2DModel, file: _LoraFile, source: Path) -> int:
    """The adapter's rank, when all its matrices fit the transformer's layers."""
    modules = dict(transformer.named_modules())
    ranks = set()
    for name in file.layers:
        layer = modules.get(name)
        a, b = file.lora.get(f"{name}.lora_A"), file.lora.get(f"{name}.lora_B")
        if not isinstance(layer, nn.Linear) or a is None or b is None:
            raise WeightsMismatchError(f"{source} adapts {name}, which is not here", _REMEDY)
        fits = a.ndim == b.ndim == 2 and a.shape[0] == b.shape[1]
        if not fits or (b.shape[0], a.shape[1]) != tuple(layer.weight.shape):
            raise WeightsMismatchError(
                f"{source} was meant for a generator of width {a.shape[-1]}, "
                f"not {layer.in_features} ({name})",
                _REMEDY,
            )
        ranks.add(int(a.shape[0]))
    if len(ranks) != 1:
        raise WeightsMismatchError(f"{source} mixes the ranks {sorted(ranks)}", _REMEDY)
    return ranks.pop()
