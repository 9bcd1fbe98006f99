"""How many tiles a second does the sampler draw, against diffusers' own PixArt loop?

Both run on the same weights, noise and embeddings in one process, turn by turn; the figure is the
ratio of median times. First their results are compared. The peer (`_peer_sampler.py`) is diffusers'
``PixArtTransformer2DModel`` with its SDPA attention, guidance in one batch, DPM-Solver++ and
``AutoencoderKL``; its denoising also runs with every block compiled, as diffusers recommends.

- ``denoise``: noise to latents. ``tiles``: embeddings and seeds to uint8 pictures on the host, with
  decoding, over ``--batches`` batches, so that overlapping stages count.
- On a CPU the times are of the process on one thread: they depend less on what else the machine
  does. On a GPU they are wall times.
- ``labelled options`` change the result. Each is given with its distance from the exact result: the
  root mean square difference of the latents over their standard deviation.

    python benchmarks/sampler.py [--dtype fp32 bf16] [--batch 8] [--runs 5] [--no-compile]
    python benchmarks/sampler.py --device cuda --size full-256
    python benchmarks/sampler.py --device cuda --size full-1024 --batches 2 --runs 3

``nano`` has its packaged weights, the full sizes random ones. Writes
benchmarks/results/sampler_<size>_<device>_<machine>.json.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from _peer_sampler import Peer
from _results import write_result
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler

from pixcell_share.pixcell import LatentCodec, PixCell, PixCellTransformer2DModel, SamplerSettings
from pixcell_share.pixcell.device import DTYPES
from pixcell_share.pixcell.drawing import Batch
from pixcell_share.pixcell.sampler import denoise
from pixcell_share.pixcell.seeds import tile_noise
from pixcell_share.training.flops import SD3_VAE, sampling_flops, vae_decode_flops
from pixcell_share.training.peaks import peak_flops

FULL = {
    "full-256": {"sample_size": 32, "interpolation_scale": 0.5, "caption_num_tokens": 1},
    "full-1024": {"sample_size": 128, "interpolation_scale": 2.0, "caption_num_tokens": 16},
}
OPTIONS = {
    "14 steps": {"steps": 14},
    "guidance interval 100-900": {"guidance_interval": (100.0, 900.0)},
    "block cache 2": {"block_cache": 2},
    "block cache 3": {"block_cache": 3},
    "14 steps, interval 100-900, block cache 2": {
        "steps": 14,
        "guidance_interval": (100.0, 900.0),
        "block_cache": 2,
    },
}


@dataclass
class Contender:
    """One way to do the work, and its times."""

    work: Callable[[], Any]
    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0

    @property
    def median(self) -> float:
        """Seconds of a run."""
        return statistics.median(self.seconds)


class Bench:
    """One model in one dtype: the work, and the clock that fits the device."""

    def __init__(self, size: str, dtype: str, arguments: argparse.Namespace) -> None:
        self.device = torch.device(arguments.device)
        self.dtype = DTYPES[dtype]
        self.model = build(size, self.device, self.dtype)
        self.scale = 2.0
        self.exact = SamplerSettings(
            steps=arguments.steps, guidance_scale=self.scale, batch_size=arguments.batch
        )
        self.peer = Peer(self.model, arguments.steps, self.scale)
        self.batches = self._batches(arguments.batches, arguments.batch)
        self.runs = arguments.runs

    def _batches(self, count: int, size: int) -> list[Batch]:
        rng = np.random.default_rng(0)
        shape = (size, self.model.tokens, self.model.embedding_dim)
        return [
            Batch(rng.standard_normal(shape).astype(np.float32), range(i * size, (i + 1) * size))
            for i in range(count)
        ]

    @torch.inference_mode()
    def latents(self, settings: SamplerSettings) -> torch.Tensor:
        """Ours, of the first batch."""
        batch, transformer = self.batches[0], self.model.transformer
        side, channels = transformer.config.sample_size, transformer.config.in_channels
        return denoise(
            transformer,
            self.model.new_scheduler(),
            tile_noise(batch.seeds, (channels, side, side)),
            torch.from_numpy(batch.embeddings),
            steps=settings.steps,
            guidance_scale=self.scale,
            guidance_interval=settings.guidance_interval,
            block_cache=settings.block_cache,
            compiled=settings.compile,
        )

    def tiles(self, settings: SamplerSettings) -> list[np.ndarray]:
        """Ours, of all batches."""
        return list(self.model.draw(self.batches, settings))

    def turn_by_turn(self, contenders: dict[str, Contender]) -> None:
        """Run each once to warm up, then all in turn, ``runs`` times."""
        for contender in contenders.values():
            contender.work()
        for _ in range(self.runs):
            for contender in contenders.values():
                self._time(contender)

    def _time(self, contender: Contender) -> None:
        if self.device.type != "cuda":
            began = time.process_time()
            contender.work()
            contender.seconds.append(time.process_time() - began)
            return
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        contender.work()
        torch.cuda.synchronize()
        contender.seconds.append(time.perf_counter() - began)
        contender.peak_bytes = max(contender.peak_bytes, torch.cuda.max_memory_allocated())


def build(size: str, device: torch.device, dtype: torch.dtype) -> PixCell:
    """``nano``, or a full-size model with random weights and the released shapes."""
    if size == "nano":
        return PixCell.from_pretrained("nano", device=device, dtype=dtype)
    torch.manual_seed(0)
    with device:
        transformer = PixCellTransformer2DModel(**FULL[size], use_additional_conditions=False)
        vae = AutoencoderKL(**SD3_VAE, scaling_factor=1.5305, shift_factor=0.0609)
    model = PixCell(transformer, LatentCodec(vae), DPMSolverMultistepScheduler())
    return model._to(device, dtype)


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Root mean square difference over the standard deviation of ``other``."""
    return float((one.float() - other.float()).square().mean().sqrt() / other.float().std())


def check_equal(bench: Bench) -> dict[str, float]:
    """How far ours and the peer are apart; in float32 no further than rounding."""
    batch = bench.batches[0]
    theirs = bench.peer.denoise(batch.embeddings, batch.seeds).float()
    ours = bench.latents(bench.exact)
    pictures = bench.tiles(bench.exact)[0].astype(int) - bench.peer.decode(theirs)
    return {
        "latents_rms": difference(ours, theirs),
        "latents_max": float((ours - theirs).abs().max() / theirs.std()),
        "tiles_max_grey_levels": int(np.abs(pictures).max()),
        "tiles_mean_grey_levels": float(np.abs(pictures).mean()),
    }


def rows(bench: Bench, contenders: dict[str, Contender], tiles: int) -> dict[str, dict[str, Any]]:
    """Medians, and the ratio to plain diffusers."""
    base = contenders["diffusers"].median
    return {
        name: {
            "tiles_per_s": round(tiles / each.median, 4),
            "ratio": round(base / each.median, 3),
            "seconds": [round(value, 3) for value in each.seconds],
        }
        | ({"peak_gib": round(each.peak_bytes / 2**30, 2)} if each.peak_bytes else {})
        for name, each in contenders.items()
    }


def _short(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    """For the screen, so that a run that is cut off has said what it found."""
    return {name: f"{row['tiles_per_s']}/s, {row['ratio']} times" for name, row in found.items()}


def exact(bench: Bench, compiled: bool) -> dict[str, Any]:
    """The peer and ours with equal results: denoising alone, and whole tiles."""
    first = bench.batches[0]
    fast = replace(bench.exact, compile=True)
    stages: dict[str, Any] = {}
    work = {
        "denoise": {
            "diffusers": lambda: bench.peer.denoise(first.embeddings, first.seeds),
            "ours": lambda: bench.latents(bench.exact),
            "ours, compiled": lambda: bench.latents(fast),
        },
        "tiles": {
            "diffusers": lambda: bench.peer.draw(bench.batches),
            "ours": lambda: bench.tiles(bench.exact),
            "ours, compiled": lambda: bench.tiles(fast),
        },
    }
    for stage, jobs in work.items():
        chosen = {name: job for name, job in jobs.items() if compiled or "compiled" not in name}
        contenders = {name: Contender(job) for name, job in chosen.items()}
        bench.turn_by_turn(contenders)
        count = len(first.seeds) * (len(bench.batches) if stage == "tiles" else 1)
        stages[stage] = rows(bench, contenders, count)
        print(bench.dtype, stage, _short(stages[stage]), flush=True)
    return stages


def compiled_peer(bench: Bench, plain: dict[str, Any]) -> dict[str, Any]:
    """The peer with its blocks compiled; after all else, since it stays so."""
    first = bench.batches[0]
    for block in bench.peer.transformer.transformer_blocks:  # diffusers names no repeated blocks
        block.compile(dynamic=False)
    contender = Contender(lambda: bench.peer.denoise(first.embeddings, first.seeds))
    bench.turn_by_turn({"": contender})
    rate = len(first.seeds) / contender.median
    return {"tiles_per_s": round(rate, 4), "ratio": round(rate / plain["tiles_per_s"], 3)}


def labelled(bench: Bench, compiled: bool) -> dict[str, Any]:
    """Denoising with the options that change the result, and by how much."""
    wanted = bench.latents(bench.exact)
    batch = bench.batches[0]
    settings = {
        name: replace(bench.exact, compile=compiled, **option) for name, option in OPTIONS.items()
    }
    jobs = {name: Contender(lambda s=each: bench.latents(s)) for name, each in settings.items()}
    peer = Contender(lambda: bench.peer.denoise(batch.embeddings, batch.seeds))
    bench.turn_by_turn({"diffusers": peer, **jobs})
    found = rows(bench, {"diffusers": peer, **jobs}, len(batch.seeds))
    for name, each in settings.items():
        found[name]["changes_the_result_by_rms"] = difference(bench.latents(each), wanted)
    print(bench.dtype, "labelled", _short(found), flush=True)
    return found


def utilisation(bench: Bench, stages: dict[str, Any]) -> dict[str, Any]:
    """TFLOP of a tile, and on a GPU the share of its peak (MFU) that sampling reaches."""
    config, steps = bench.model.transformer.config, bench.exact.steps
    plain, saving = (sampling_flops(config, steps, saving=value) for value in (False, True))
    decode = vae_decode_flops(config.sample_size, bench.model.codec.vae.config)
    result: dict[str, Any] = {
        "denoise_tflop_plain": plain / 1e12,
        "denoise_tflop_ours": saving / 1e12,
        "decode_tflop": decode / 1e12,
    }
    peak = None
    if bench.device.type == "cuda":
        peak = peak_flops(torch.cuda.get_device_name(), bench.dtype)
    if peak:
        for name, row in stages["denoise"].items():
            cost = plain if name == "diffusers" else saving
            result[f"mfu_denoise {name}"] = round(row["tiles_per_s"] * cost / peak, 4)
    return result


def measure(dtype: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything in one dtype."""
    bench = Bench(arguments.size, dtype, arguments)
    equal = check_equal(bench)
    print(dtype, "ours against the peer:", equal)
    if dtype == "fp32" and bench.device.type == "cpu":
        assert equal["latents_max"] < 1e-4, "the results are not equal"
    stages = exact(bench, arguments.compile)
    options = labelled(bench, arguments.compile)
    result = {"equal": equal, **stages, "labelled_options": options}
    if arguments.compile:
        result["diffusers_compiled"] = compiled_peer(bench, stages["denoise"]["diffusers"])
    return result | {"flops": utilisation(bench, stages)}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--size", choices=["nano", *FULL], default="nano")
    parser.add_argument("--dtype", nargs="+", choices=sorted(DTYPES))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, help="default: 64 on a GPU at 256 px, else 8")
    parser.add_argument("--batches", type=int, default=None, help="of the whole road to tiles")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args(words)
    on_gpu = arguments.device == "cuda"
    whole = on_gpu and arguments.size != "full-1024"
    arguments.batch = arguments.batch or (64 if whole else 8)
    arguments.batches = arguments.batches or (4 if on_gpu else 1)
    if not on_gpu:
        torch.set_num_threads(1)
    dtypes = arguments.dtype or (["bf16"] if on_gpu else ["fp32", "bf16"])
    result = {
        "size": arguments.size,
        "gpu": torch.cuda.get_device_name() if on_gpu else None,
        "batch": arguments.batch,
        "batches_of_tiles": arguments.batches,
        "steps": arguments.steps,
        **{dtype: measure(dtype, arguments) for dtype in dtypes},
    }
    name = f"sampler_{arguments.size}_{arguments.device}"
    print(write_result(name, result, ("torch", "diffusers", "numpy")))


if __name__ == "__main__":
    main()
