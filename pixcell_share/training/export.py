"""From a run to a model: a diffusers folder with the averaged weights, and a card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixcell_share.errors import SettingsError, WeightsError
from pixcell_share.files import atomic_write_text
from pixcell_share.pixcell.folders import find_vae
from pixcell_share.pixcell.load import load_vae
from pixcell_share.pixcell.save import save_generator
from pixcell_share.training.checkpoints import Checkpoints
from pixcell_share.training.distributed import Ranks
from pixcell_share.training.record import write_record
from pixcell_share.training.samples import build_scheduler, build_transformer
from pixcell_share.training.settings import FILE, read_run
from pixcell_share.weights import is_repo_id

_GUIDANCE = {256: 2.0, 512: 2.0, 1024: 1.2}
"""The paper's guidance scales; it gives none for 512 px."""


def export_run(
    folder: Path,
    out: Path,
    *,
    dtype: torch.dtype | None = None,
    guidance_scale: float | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Write the model of a run from its last checkpoint.

    Args:
        folder: of the run.
        out: folder to fill.
        dtype: of the weight files; None keeps float32.
        guidance_scale: default of the model; None: the paper's.
        say: is told what was left out.

    Raises:
        SettingsError: there is no run, or it has no checkpoint yet.
    """
    run = read_run(folder)
    step = _checkpoints(folder).latest() if run is not None else None
    if run is None or step is None:
        what = f"has no {FILE}" if run is None else "has no checkpoint yet"
        raise SettingsError(f"{folder} {what}", "name the --out folder of `pixcell-train run`")
    if "config" not in run["about"]:
        raise SettingsError(
            f"{folder} is the run of a LoRA", "use the LoRA file that `pixcell-train adapt` wrote"
        )
    weights = averaged_weights(folder, step)
    return write_model(out, weights, run, step, dtype=dtype, guidance_scale=guidance_scale, say=say)


def averaged_weights(folder: Path, step: int) -> dict[str, Tensor]:
    """The state dict of a run's checkpoint, with averages in place of what was averaged."""
    checkpoints = _checkpoints(folder)
    room = {
        key: torch.empty(size, dtype=dtype)
        for key, (size, dtype) in checkpoints.shapes(step).items()
        if key.startswith(("model/", "average/"))
    }
    checkpoints.read(step, room)
    model = {k.removeprefix("model/"): v for k, v in room.items() if k.startswith("model/")}
    average = {k.removeprefix("average/"): v for k, v in room.items() if k.startswith("average/")}
    return model | average


def write_model(
    out: Path,
    weights: Mapping[str, Tensor],
    run: Mapping[str, Any],
    step: int,
    *,
    dtype: torch.dtype | None = None,
    guidance_scale: float | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Write ``transformer/``, ``scheduler/``, ``vae/``, ``model_index.json``, ``training.json``
    and ``README.md``.

    Args:
        out: folder to fill.
        weights: the whole state dict.
        run: ``run.json``.
        step: after which they were taken.
        dtype: of the weight files; None keeps float32.
        guidance_scale: default of the model; None: the paper's.
        say: is told what was left out.
    """
    about, stage = run["about"], run["fixed"]["stage"]
    scale = _GUIDANCE.get(stage["stage"]) if guidance_scale is None else guidance_scale
    vae, source = _vae(about["vae"], say)
    save_generator(
        out,
        build_transformer(about["config"], weights),
        build_scheduler(stage["objective"]["prediction"]),
        vae=vae,
        vae_source=source,
        guidance_scale=scale,
        dtype=dtype,
    )
    write_record(out, about.get("trained_on"))
    atomic_write_text(out / "README.md", card(run, step, scale))
    return out


def _vae(name: str, say: Callable[[str], None]) -> tuple[Any, str | None]:
    """The VAE to copy where it is a folder of this machine or nano's, else its repository."""
    if is_repo_id(name) and not Path(name).expanduser().exists():
        return None, name
    try:
        return load_vae(find_vae(name)[1]), None
    except WeightsError as error:
        say(f"the model has no VAE in it: {error}")
        return None, None


def card(run: Mapping[str, Any], step: int, guidance_scale: float | None) -> str:
    """The model's README: data, settings, and what it is not yet known to do."""
    fixed, about = run["fixed"], run["about"]
    stage = fixed["stage"]
    stores = "\n".join(
        f"| {each['store']} | {each['regions']:,} | {each['holdout']:,} | {each['repeat']} | "
        f"`{each['sha256'][:12]}` |"
        for each in fixed["data"]
    )
    settings = "\n".join(f"| {key} | {value} |" for key, value in stage.items())
    return f"""# A PixCell generator of {stage["stage"]} px tiles

Trained with pixcell-share (`pixcell-train run`), {step:,} steps of {stage["global_batch"]} images;
the weights are the moving average. Default guidance scale: {guidance_scale}.

- encoder of the conditions: `{about["encoder"]["name"]}` ({about["encoder"]["licence"]})
- VAE: `{about["vae_identity"]["name"]}` ({about["vae_identity"]["licence"]})
- resolution: {about["mpp"] or "not known"} µm/px
- started from: {Path(fixed["init"]).name if fixed["init"] else "random weights"}

## Data

| store | training regions | held out | repeats | store.json |
|---|---|---|---|---|
{stores}

The terms of the slides, of the encoder and of the VAE decide who may use these weights. Nobody has
measured yet how good the tiles are, nor how much they tell of the training data.

## Settings

| | |
|---|---|
{settings}
| dtype | {fixed["dtype"]} |
| seed | {fixed["seed"]} |
"""


def _checkpoints(folder: Path) -> Checkpoints:
    return Checkpoints(folder / "checkpoints", Ranks(0, 1, torch.device("cpu")), keep=1)
