"""Read a diffusers folder strictly: the right files for the right config, or a clear error."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pixcell_share.errors import WeightsError, WeightsMismatchError, WeightsMissingError
from pixcell_share.pixcell.purpose import TOKEN_POSITIONS_KEY, check_purpose, settle_config
from pixcell_share.pixcell.transformer import PixCellTransformer2DModel

_log = logging.getLogger(__name__)
_Model = TypeVar("_Model", bound=nn.Module)

WEIGHTS = "diffusion_pytorch_model"
LEGACY_KEYS = frozenset(
    {
        "double_self_attention",
        "num_vector_embeds",
        "only_cross_attention",
        "use_linear_projection",
    }
)
"""Config keys of old PixArt files that PixCell's class never used."""
MAY_BE_MISSING = TOKEN_POSITIONS_KEY
"""The released PixCell-1024 file lacks this one key; it is computed from its formula."""
_PREDICTIONS = {"epsilon", "v_prediction", "sample"}
_NOISE_SCHEDULE = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
    "prediction_type",
)
_AGAIN = "get the file again; an interrupted download is the usual cause"


def read_json(path: Path) -> dict[str, Any]:
    """A config file.

    Raises:
        WeightsMissingError: there is no such file.
        WeightsError: it is not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsMissingError(f"{path} is missing", "get the whole model folder") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read as JSON: {error}", _AGAIN) from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path} is not a JSON object", _AGAIN)
    return value


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of one model: the whole one, or its shards.

    Raises:
        WeightsMissingError: there are none.
    """
    whole = folder / f"{WEIGHTS}.safetensors"
    if whole.is_file():
        return [whole]
    shards = sorted(folder.glob(f"{WEIGHTS}-*-of-*.safetensors"))
    if not shards:
        raise WeightsMissingError(f"{whole} is missing", "get the whole model folder")
    return shards


def load_transformer(folder: Path) -> PixCellTransformer2DModel:
    """The transformer of a ``transformer/`` folder, on the CPU, in the dtype of its file.

    Raises:
        WeightsError: a file is missing or damaged (also as `WeightsMissingError`).
        WeightsMismatchError: the config or the weights belong to another model.
    """
    config = read_json(folder / "config.json")
    name = str(config.get("_class_name", "none"))
    if not name.startswith(PixCellTransformer2DModel.__name__):
        raise WeightsMismatchError(
            f"{folder} holds a {name}, not a {PixCellTransformer2DModel.__name__}",
            "name the folder or repository of a PixCell model",
        )
    state = _read_state(folder)
    config = settle_config(config, state)
    model: PixCellTransformer2DModel = build_on_meta(PixCellTransformer2DModel, config, folder)
    model.fill_tables()
    check_purpose(model, state, folder)
    fill_strictly(model, state, folder, may_be_missing=MAY_BE_MISSING)
    return model


def load_vae(folder: Path) -> Any:
    """The ``AutoencoderKL`` of a ``vae/`` folder, on the CPU, in the dtype of its file.

    Raises:
        WeightsError: a file is missing or damaged (also as `WeightsMissingError`).
        WeightsMismatchError: the config or the weights belong to another model.
    """
    config = read_json(folder / "config.json")
    if config.get("_class_name") != "AutoencoderKL":
        raise WeightsMismatchError(
            f"{folder} holds a {config.get('_class_name')}, not an AutoencoderKL",
            "name the folder or repository of an SD3-type VAE",
        )
    vae: nn.Module = build_on_meta(AutoencoderKL, config, folder)
    fill_strictly(vae, _read_state(folder), folder)
    return vae


def load_scheduler(folder: Path) -> Any:
    """DPM-Solver++ with the noise schedule and prediction type of a ``scheduler/`` folder.

    A DPM-Solver config is taken as it is. From another scheduler's, such as the DDPM that a
    training script writes, only the noise schedule and the prediction type are taken: its step
    spacing is a default that nobody chose (DDPM's would start at step 950 of 1000).

    Raises:
        WeightsError: the file is missing or damaged (also as `WeightsMissingError`).
        WeightsMismatchError: the prediction type or the solver is not one that fits PixCell.
    """
    path = folder / "scheduler_config.json"
    config = read_json(path)
    if config.get("_class_name") == DPMSolverMultistepScheduler.__name__:
        # The sampler has already cut off the learned variance; the scheduler must not cut again.
        kept = {key: value for key, value in config.items() if key != "variance_type"}
    else:
        kept = {key: config[key] for key in _NOISE_SCHEDULE if key in config}
        if "prediction_type" not in kept:
            raise _unfit_scheduler(path, f"is a {config.get('_class_name')} without epsilon or v")
    try:
        scheduler = DPMSolverMultistepScheduler.from_config(kept)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise _unfit_scheduler(path, f"fits no DPM-Solver++: {error}") from error
    if scheduler.config.prediction_type not in _PREDICTIONS or scheduler.config.use_flow_sigmas:
        raise _unfit_scheduler(path, f"asks for {scheduler.config.prediction_type}")
    if scheduler.config.algorithm_type.startswith("sde-"):
        raise _unfit_scheduler(path, "asks for a solver that draws fresh noise in every step")
    return scheduler


def _unfit_scheduler(path: Path, why: str) -> WeightsMismatchError:
    return WeightsMismatchError(
        f"{path} {why}",
        "use the scheduler config that belongs to the model: PixCell's predicts noise (epsilon) "
        "or velocity (v_prediction), and its sampler is dpmsolver++",
    )


def _read_state(folder: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for path in weight_files(folder):
        try:
            state.update(load_file(path))
        except (SafetensorError, OSError, ValueError) as error:
            raise WeightsError(f"{path} is damaged: {error}", _AGAIN) from error
    return state


def build_on_meta(kind: type[_Model], config: Mapping[str, Any], folder: Path) -> _Model:
    """The model that a config describes, on ``meta``: no memory, and no random numbers drawn."""
    known = set(inspect.signature(kind.__init__).parameters)
    extra = sorted(key for key in config if key not in known and not key.startswith("_"))
    if extra:
        legacy = "legacy" if LEGACY_KEYS.issuperset(extra) else "unknown"
        _log.warning("%s: %s config keys ignored: %s", folder, legacy, ", ".join(extra))
    try:
        with torch.device("meta"):
            return kind(**{key: value for key, value in config.items() if key in known})
    except (ValueError, TypeError, NotImplementedError, ZeroDivisionError) as error:
        raise WeightsMismatchError(
            f"{folder / 'config.json'} describes no {kind.__name__}: {error}", _AGAIN
        ) from error


def fill_strictly(
    model: nn.Module,
    state: Mapping[str, Tensor],
    source: Path,
    *,
    may_be_missing: str | None = None,
    assign: bool = True,
) -> None:
    """Put a state dict into a model; every key and shape must fit.

    Args:
        model: the model, on ``meta`` if ``assign``.
        state: its weights.
        source: where they came from, for the message.
        may_be_missing: the one key that the file may lack.
        assign: take the tensors as they are; else copy them into the model's own.

    Raises:
        WeightsMismatchError: a key is missing, unknown or misshapen; the first are named.
    """
    expected = model.state_dict()
    missing = sorted(set(expected) - set(state) - {may_be_missing})
    extra = sorted(set(state) - set(expected))
    reshaped = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    for what, keys in (("lack", missing), ("have unknown", extra), ("have misshapen", reshaped)):
        if keys:
            listed = ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
            raise WeightsMismatchError(
                f"the weights in {source} {what} keys: {listed} ({len(keys)} in all)",
                "use the weights that belong to this model's config.json",
            )
    model.load_state_dict(dict(state), strict=False, assign=assign)
