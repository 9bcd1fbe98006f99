"""Carry out what `pixcell-train nano` asks for, beyond a single stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from pixcell_share.files import atomic_write_text
from pixcell_share.nano.evaluate import Evaluation, EvaluationSettings, Evaluator
from pixcell_share.nano.export import export_generator, export_parts, size_of
from pixcell_share.nano.pictures import write_sheet
from pixcell_share.nano.stages import TrainingRun

SHEET_TILES = 8
"""Tiles in a row of a contact sheet."""


def export_parts_of(run: TrainingRun, out: Path) -> None:
    """Write the VAE and the encoder of a run, with the fine-tuned decoder where there is one."""
    export_parts(out, vae=_vae(run), encoder=run.encoder(), encoder_settings=run.settings.encoder)


def export_run(run: TrainingRun, generator: Path, out: Path, guidance_scale: float) -> int:
    """Write the weights of a run and of the generator that was trained on its latents.

    Args:
        run: holds the VAE and the encoder.
        generator: the ``model/`` folder of ``pixcell-train run``.
        out: the folder to fill.
        guidance_scale: the default of the exported model.

    Returns:
        Size of all weights in bytes.
    """
    export_parts_of(run, out)
    export_generator(out, generator, guidance_scale, vae=_vae(run))
    return size_of(out)


def _vae(run: TrainingRun) -> Any:
    return run.vae("decoder" if run.has("decoder") else "vae")


def evaluate_weights(
    run: TrainingRun, weights: Path, out: Path, settings: EvaluationSettings, dtype: torch.dtype
) -> str:
    """Compute the card's figures, and write them and the pictures into ``out``.

    ``real_reconstructed_synthetic.png`` shows real tiles; ``synthetic.png`` does not.

    Returns:
        The figures as JSON.
    """
    evaluation = Evaluator(run.tiles, weights, settings, run.device, dtype).run()
    text = json.dumps(evaluation.figures, indent=2, sort_keys=True)
    atomic_write_text(out / "figures.json", text + "\n")
    _write_sheets(evaluation, out)
    return text


def _write_sheets(evaluation: Evaluation, out: Path) -> None:
    count = len(evaluation.real)
    shown = [at * count // SHEET_TILES for at in range(min(SHEET_TILES, count))]
    synthetic = [drawn[shown] for drawn in evaluation.synthetic.values()]
    real = [evaluation.real[shown], evaluation.reconstructed[shown]]
    write_sheet(out / "real_reconstructed_synthetic.png", [*real, *synthetic])
    write_sheet(out / "synthetic.png", synthetic)
