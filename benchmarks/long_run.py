"""Does the sampler slow down or grow over 100,000 tiles?

One lazy `PixCell.generate` over all embeddings, with the smallest model that has every part (one
block, 32 px tiles, one step), so that what is measured is the road around the arithmetic: noise,
batches, scheduler, conditions, decoding, copies. Rates are of the process's own time on a CPU, so
that other work on the machine does not count.

    python benchmarks/long_run.py [--tiles 100000] [--device cuda]

Writes benchmarks/results/long_run_<device>_<machine>.json.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import write_result
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler

from pixcell_share.pixcell import LatentCodec, PixCell, PixCellTransformer2DModel, SamplerSettings

FIRST = 1000
WINDOW = 10_000
DIM = 24


def tiny(device: str) -> PixCell:
    torch.manual_seed(0)
    transformer = PixCellTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=1,
        sample_size=4,
        interpolation_scale=0.5,
        use_additional_conditions=False,
        caption_channels=DIM,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=16,
        norm_num_groups=4,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    )
    model = PixCell(transformer, LatentCodec(vae), DPMSolverMultistepScheduler())
    return model._to(torch.device(device), torch.float32)


def resident_mib() -> float:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def run(model: PixCell, count: int, clock: Any) -> list[dict[str, float]]:
    """Rate and memory after the first thousand tiles, and after each ten thousand."""
    embeddings = np.random.default_rng(0).standard_normal((count, 1, DIM)).astype(np.float32)
    settings = SamplerSettings(steps=1, guidance_scale=2.0, batch_size=16)
    list(model.generate(embeddings[:64], range(64), settings))
    marks = [FIRST, *range(WINDOW, count + 1, WINDOW)]
    windows: list[dict[str, float]] = []
    before, began = 0, clock()
    for done, _ in enumerate(model.generate(embeddings, range(count), settings), start=1):
        if done == marks[len(windows)]:
            now = clock()
            rate = (done - before) / (now - began)
            windows.append(
                {"tiles": done, "tiles_per_s": round(rate, 1), "rss_mib": round(resident_mib(), 1)}
            )
            print(windows[-1], flush=True)
            before, began = done, now
    return windows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--tiles", type=int, default=100_000)
    arguments = parser.parse_args()
    on_gpu = arguments.device == "cuda"
    torch.set_num_threads(1)
    clock = time.perf_counter if on_gpu else time.process_time
    windows = run(tiny(arguments.device), arguments.tiles, clock)
    result = {
        "clock": "wall" if on_gpu else "process",
        "gpu": torch.cuda.get_device_name() if on_gpu else None,
        "last_rate_over_first": round(windows[-1]["tiles_per_s"] / windows[0]["tiles_per_s"], 3),
        "mib_from_first_to_last": round(windows[-1]["rss_mib"] - windows[0]["rss_mib"], 1),
        "windows": windows,
    }
    path = write_result(f"long_run_{arguments.device}", result, ("torch", "diffusers", "numpy"))
    print(path)


if __name__ == "__main__":
    main()
