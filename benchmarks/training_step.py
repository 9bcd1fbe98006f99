"""How fast is a training step, how much of the device is that, and how long does it wait for data?

- the trainer's own loop (gradient clipping, optimizer, moving average and log included) on a model
  with random weights and a store of random latents: the arithmetic is the same.
- on a GPU the full size of the paper in bf16, each stage, with and without ``torch.compile``; on a
  CPU the small configuration (`nano`), to see that the script runs and that resources are used.
- FLOPs are the model's own (`pixcell_share.training.flops`; what one condition token spares is
  left out), the peak is that of NVIDIA's data sheet. On a CPU the peak is measured, the best of
  some large matrix products on one thread, and both count processor time, not wall time: other
  jobs of the machine do not change the share.
- a row is the median over ``--lines`` log lines of ``--steps`` steps each, after one to warm up.

    python benchmarks/training_step.py [--device cpu]
    python benchmarks/training_step.py --device cuda [--stage 256] [--micro-batch 64]

Writes benchmarks/results/training_step_<device>_<machine>.json.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import write_result

from pixcell_share.training.batches import BatchMaker, SampleSettings
from pixcell_share.training.distributed import Ranks
from pixcell_share.training.division import divide
from pixcell_share.training.flops import training_flops
from pixcell_share.training.latents import (
    IndexRow,
    LatentStore,
    ShuffledOrder,
    Source,
    StoreInfo,
    StoreWriter,
)
from pixcell_share.training.logs import read_log
from pixcell_share.training.loop import LoopSettings, Trainer
from pixcell_share.training.objective import DiffusionObjective
from pixcell_share.training.pace import Pace
from pixcell_share.training.peaks import device_name, peak_flops
from pixcell_share.training.run import prepare_attention
from pixcell_share.training.stages import STAGES, StageSettings, preset
from pixcell_share.training.start import build_model

EMBEDDING_DIM = {"paper": 1536, "came": 1536, "nano": 192, "tiny": 24}
MICRO_BATCH = {256: 64, 512: 32, 1024: 8}
"""On a GPU."""


@dataclass(frozen=True)
class Case:
    """One row."""

    stage: StageSettings
    preset: str
    bf16: bool
    compile: bool


def cases(arguments: argparse.Namespace) -> Iterator[Case]:
    """What is measured on this device."""
    gpu = arguments.device == "cuda"
    name = arguments.preset or ("paper" if gpu else "nano")
    for px in arguments.stage or (STAGES if gpu else (256,)):
        usual = preset(name, px)
        batch = arguments.micro_batch or (MICRO_BATCH[px] if gpu else usual.micro_batch)
        steps = arguments.steps * (arguments.lines + 1)
        stage = replace(usual, micro_batch=batch, global_batch=batch, steps=steps)
        for bf16 in (True,) if gpu else (False, True):
            for compiled in arguments.compile or ((False, True) if gpu else (False,)):
                yield Case(stage, name, bf16, compiled)


def make_store(folder: Path, dim: int, region_px: int, rows: int) -> Path:
    """Random latents and embeddings."""
    grid, side = region_px // 256, region_px // 8
    info = StoreInfo(
        region_px=region_px, grid=grid, mpp=0.5, latent_channels=16, latent_side=side,
        embedding_dim=dim, scaling_factor=1.5305, shift_factor=0.0609, vae={"name": "random"},
        encoder={"name": "random"}, vae_source="nano", encoder_source="nano",
        encoder_weights=None, shard_rows=max(1, rows // 4),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    with StoreWriter(folder, info) as writer:
        for number in range(rows):
            latents = rng.standard_normal((16, side, side), dtype=np.float32).astype(np.float16)
            embeddings = rng.standard_normal((grid**2, dim), dtype=np.float32).astype(np.float16)
            writer.add("train", latents, embeddings, IndexRow("random", x=str(number), y="0"))
        writer.finish()
    return folder


def measure(case: Case, store: Path, device: torch.device, peak: float | None, steps: int) -> dict:
    """One row of the result."""
    stage = case.stage
    sources = [Source(LatentStore.open(store, on_bad="refuse"), 1)]
    config = stage.config(sources[0].store.info.embedding_dim, 16)
    flops = training_flops(config, shortcut=True)
    model = build_model(stage, config["caption_channels"], 16)
    prepare_attention(model, stage, device)
    ranks = Ranks(0, 1, device)
    drawn = SampleSettings(stage=stage.stage, global_batch=stage.global_batch)
    with tempfile.TemporaryDirectory() as folder:
        loop = LoopSettings(
            bf16=case.bf16, compile=case.compile, save_every=10**9, log_every=steps, quiet=True
        )
        trainer = Trainer(
            model.to(device).train(),
            DiffusionObjective(stage.objective, device),
            stage,
            BatchMaker(ShuffledOrder(sources, seed=0, buffer=4096), sources, drawn),
            divide(stage.global_batch, 1, stage.micro_batch, exact=True),
            ranks,
            Path(folder),
            loop,
            pace=Pace(stage.global_batch, ranks, flops, peak),
            kept=lambda name: False,
        )
        began = time.process_time()
        trainer.run()
        processor = time.process_time() - began
        lines = read_log(Path(folder))[1:]
    found = row(case, config, flops, lines)
    if device.type == "cpu" and peak is not None:
        spent = processor / stage.steps / stage.global_batch
        found |= {"processor_s_per_image": round(spent, 4), "mfu": round(flops / spent / peak, 4)}
    return found


def row(case: Case, config: dict[str, Any], flops: int, lines: list[dict[str, Any]]) -> dict:
    """Medians of log lines."""

    def median(name: str) -> float | None:
        values = [line[name] for line in lines if line[name] is not None]
        return statistics.median(values) if values else None

    mfu = median("mfu")
    return {
        "preset": case.preset,
        "stage": case.stage.stage,
        "width": config["cross_attention_dim"],
        "layers": config["num_layers"],
        "optimizer": case.stage.optimizer,
        "micro_batch": case.stage.micro_batch,
        "dtype": "bf16" if case.bf16 else "fp32",
        "compile": case.compile,
        "images_per_s": round(median("images_per_second") or 0, 3),
        "gflop_per_image": round(flops / 1e9, 2),
        "mfu": None if mfu is None else round(mfu, 4),
        "waiting": round(median("waiting") or 0, 5),
        "memory_gib": round(median("memory_gib") or 0, 2),
    }


def measured_peak(dtype: torch.dtype, side: int = 1024, runs: int = 8) -> float:
    """FLOP per processor second of the best of some square matrix products on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    a = torch.randn(side, side).to(dtype)
    times = []
    for _ in range(runs):
        began = time.thread_time()
        a @ a
        times.append(time.thread_time() - began)
    torch.set_num_threads(threads)
    return 2 * side**3 / min(times)


def find_peak(device: torch.device, bf16: bool) -> float | None:
    kind = torch.bfloat16 if bf16 else torch.float32
    return measured_peak(kind) if device.type == "cpu" else peak_flops(device_name(device), kind)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--preset", choices=sorted(EMBEDDING_DIM))
    parser.add_argument("--stage", type=int, choices=STAGES, action="append")
    parser.add_argument("--micro-batch", type=int)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction)
    parser.add_argument("--steps", type=int, default=10, help="steps of a log line")
    parser.add_argument("--lines", type=int, default=3, help="log lines that are measured")
    parser.add_argument("--regions", type=int, default=512, help="of 1024 px, in the store")
    parser.add_argument("--threads", type=int, default=1, help="of torch, on a CPU")
    arguments = parser.parse_args()
    arguments.compile = None if arguments.compile is None else (arguments.compile,)
    if arguments.device == "cpu":
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(arguments):
            dim = EMBEDDING_DIM[case.preset]
            store = Path(folder) / str(dim)
            if not store.exists():
                make_store(store, dim, 1024, arguments.regions)
            peak = find_peak(device, case.bf16)
            rows.append(measure(case, store, device, peak, arguments.steps))
            rows[-1]["peak_tflops"] = None if peak is None else round(peak / 1e12, 3)
            print(rows[-1], flush=True)
    result = {"device": device_name(device), "threads": torch.get_num_threads(), "rows": rows}
    print(write_result(f"training_step_{device.type}", result, ("torch", "diffusers", "numpy")))


if __name__ == "__main__":
    main()
