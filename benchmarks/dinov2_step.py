"""How fast is a step of DINOv2, beside one put together from lightly's parts?

- the same architecture, heads, batch of crops and masks, stochastic depth, precision and device;
  turn by turn in one process, the median of each.
- ours is the arithmetic of the trainer's loop: schedules, both networks, losses, clipping,
  AdamW, teacher and centres. lightly's has no clipping (`_peer_dinov2.py`). Making crops is in
  neither: both wait for it alike.
- ``--compile`` compiles our blocks as ``compile = true`` of a job does.

    python benchmarks/dinov2_step.py [--device cpu]
    python benchmarks/dinov2_step.py --device cuda [--batch 64] [--compile]

Writes benchmarks/results/dinov2_step_<device>_<machine>.json.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from _peer_dinov2 import LightlyStep
from _results import write_result
from torch import Tensor, nn

from pixcell_share.ssl import SslSettings, preset
from pixcell_share.ssl.architectures import architecture
from pixcell_share.ssl.batch import CropBatch
from pixcell_share.ssl.batches import CropMaker
from pixcell_share.ssl.distillation import build
from pixcell_share.ssl.flops import training_flops
from pixcell_share.ssl.groups import build_optimizer, set_schedule
from pixcell_share.ssl.schedules import StepSchedule, schedule
from pixcell_share.training.peaks import device_name, peak_flops


class OurStep:
    """A step as `pixcell_share.ssl.loop` makes it, on one device."""

    def __init__(self, settings: SslSettings, device: torch.device) -> None:
        self._settings, self._device = settings, device
        self._model = build(settings).to(device)
        if settings.compile:
            for network in (self._model.student, self._model.teacher):
                for block in network.transformer_blocks:
                    block.compile()
        depth = architecture(settings.architecture).depth
        self._optimizer = build_optimizer(self._model.student, depth, settings.groups)

    def step(self, batch: CropBatch, now: StepSchedule) -> Tensor:
        """Learn from a batch; its loss."""
        model = self._model
        set_schedule(self._optimizer, now)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._settings.bf16):
            losses = model.losses(model.student, batch, now.temperature, lambda values: values)
        losses.total.backward()
        for part in model.student.children():
            nn.utils.clip_grad_norm_(part.parameters(), self._settings.groups.clip)
        self._optimizer.step()
        self._optimizer.zero_grad()
        model.after_step(now.momentum, lambda values: values)
        return losses.total.detach()


class RandomTiles:
    """A source of noise."""

    def __init__(self, count: int, px: int) -> None:
        self._tiles = np.random.default_rng(0).integers(0, 256, (count, px, px, 3), np.uint8)
        self.settings = argparse.Namespace(share=1.0)

    def __len__(self) -> int:
        return len(self._tiles)

    def read(self, row: int) -> np.ndarray:
        """One tile."""
        return self._tiles[row]


def settings_of(arguments: argparse.Namespace) -> SslSettings:
    """DINOv2's, of a size for the device."""
    cuda = arguments.device == "cuda"
    name = arguments.arch or ("dinov2_vitb14" if cuda else "dinov2_vits14")
    batch = arguments.batch or (64 if cuda else 2)
    return replace(
        preset("vitb14"), architecture=name, global_batch=batch, micro_batch=batch,
        drop_path=0.1 if name == "dinov2_vits14" else 0.3, bf16=cuda, workers=2,
        compile=arguments.compile, device=arguments.device,
    )  # fmt: skip


def timed(step: Callable[[], Tensor], device: torch.device) -> float:
    """Seconds of a step."""
    began = time.perf_counter()
    float(step())
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--arch", help="default: dinov2_vits14 on a CPU, dinov2_vitb14 on a GPU")
    parser.add_argument("--batch", type=int, help="tiles; default 2 on a CPU, 64 on a GPU")
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    device, settings = torch.device(arguments.device), settings_of(arguments)
    count = settings.global_batch
    maker = CropMaker(settings, architecture(settings.architecture), [RandomTiles(count, 256)])
    batch = maker.make(np.arange(count)).mapped(lambda tensor: tensor.to(device))
    maker.close()
    now = schedule(settings.schedule, count, settings.schedule.warmup_steps)
    sides = {"ours": OurStep(settings, device), "lightly": LightlyStep(settings, device)}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(arguments.repeats + 2):
        for name, side in sides.items():
            seconds = timed(lambda side=side: side.step(batch, now), device)
            print(f"{repeat} {name}: {seconds:.3f} s{' (warm-up)' * (repeat < 2)}", flush=True)
            if repeat >= 2:
                times[name].append(seconds)
    medians = {name: statistics.median(found) for name, found in times.items()}
    ratio = medians["lightly"] / medians["ours"]
    flops = training_flops(settings) * count
    kind = torch.bfloat16 if settings.bf16 else torch.float32
    peak = peak_flops(device_name(device), kind)
    result = {
        "device": device_name(device),
        "architecture": settings.architecture,
        "batch": count,
        "precision": "bf16" if settings.bf16 else "fp32",
        "compiled": settings.compile,
        "threads": torch.get_num_threads(),
        "repeats": arguments.repeats,
        "median_s": {name: round(found, 4) for name, found in medians.items()},
        "images_per_second": {name: round(count / found, 2) for name, found in medians.items()},
        "lightly_over_ours": round(ratio, 3),
        "mfu": round(flops / medians["ours"] / peak, 4) if peak else None,
    }
    name = "dinov2_step_" + arguments.device + ("_compiled" if settings.compile else "")
    path = write_result(name, result, ("torch", "timm", "lightly"))
    print(f"ours is {ratio:.2f} times as fast as lightly's parts; written to {path}")


if __name__ == "__main__":
    main()
