"""How many tiles a second do the encoders embed, and how much of the machine is that?

- `nano` with its packaged weights, and UNI2-h at full size with random weights: the arithmetic is
  the same whatever the weights say.
- a tile is uint8 (256, 256, 3); the rate counts everything from there to float32 embeddings.
- ``tiles_per_cpu_s`` divides by processor time in place of wall time: on one thread it does not
  depend on what else the machine is doing. On a GPU it means nothing and is left out.
- FLOPs are counted by torch on the meta device (UNI2-h: about 370 GFLOP for each tile); on a GPU
  they give the MFU, the share of the dense 16-bit peak in NVIDIA's data sheet.

    python benchmarks/encoders.py [--device cpu | cuda] [--threads 1] [--runs 5]

Writes benchmarks/results/encoders_<device>_<machine>.json.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from _results import write_result
from torch.utils.flop_counter import FlopCounterMode

from pixcell_share.encoders import ENCODERS, Encoder, EncoderSpec, load_encoder
from pixcell_share.encoders.nano import NANO_FOLDER
from pixcell_share.encoders.timm_source import TimmSource
from pixcell_share.weights import ModelIdentity

TILE_PX = 256
PEAK_TFLOPS = {"A100": 312.0, "H100": 989.0, "H200": 989.0}
"""Dense bf16 and fp16 peak of the SXM cards, from NVIDIA's data sheets."""
BATCHES = {"cpu": {"nano": 32, "uni2h": 2}, "cuda": {"nano": 512, "uni2h": 128}}
DTYPES = {"cpu": (torch.float32,), "cuda": (torch.bfloat16, torch.float16)}


def random_encoder(spec: EncoderSpec, device: str, dtype: torch.dtype) -> Encoder:
    """The full architecture with random weights."""
    assert isinstance(spec.source, TimmSource)
    identity = ModelIdentity("encoder", spec.name, "random", "", spec.licence.terms, False, "")
    return Encoder(spec, spec.source.build(), identity, device=device, dtype=dtype)


def gigaflops(encoder: Encoder) -> float:
    """Multiplications and additions of one tile's forward pass, in units of 1e9."""
    module = encoder.spec.source.build().to("meta").eval()  # type: ignore[attr-defined]
    side = encoder.spec.transform.input_px
    with FlopCounterMode(display=False) as counter:
        module(torch.empty(1, 3, side, side, device="meta"))
    return counter.get_total_flops() / 1e9


def seconds(encoder: Encoder, tiles: np.ndarray, runs: int) -> list[tuple[float, float]]:
    """Wall and processor time of each run after one to warm up.

    ``embed`` ends with the embeddings on the host, so that a GPU has finished too.
    """
    encoder.embed(tiles)
    times = []
    for _ in range(runs):
        wall, processor = time.perf_counter(), time.process_time()
        encoder.embed(tiles)
        times.append((time.perf_counter() - wall, time.process_time() - processor))
    return times


def transform_seconds(encoder: Encoder, tiles: np.ndarray, runs: int) -> float:
    """Median time of the batch transform alone."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        encoder.spec.transform(tiles, encoder.device)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(encoder: Encoder, batch: int, runs: int) -> dict[str, Any]:
    """One row of the result."""
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 256, (batch, TILE_PX, TILE_PX, 3), dtype=np.uint8)
    times = seconds(encoder, tiles, runs)
    median = statistics.median(wall for wall, _ in times)
    cost = gigaflops(encoder)
    reached = cost * batch / median / 1e3
    row = {
        "encoder": encoder.name,
        "weights": encoder.identity.source,
        "dtype": str(encoder.dtype).removeprefix("torch."),
        "batch": batch,
        "runs": runs,
        "tiles_per_s": round(batch / median, 3),
        "tiles_per_s_best": round(batch / min(wall for wall, _ in times), 3),
        "transform_share": round(transform_seconds(encoder, tiles, runs) / median, 4),
        "gflop_per_tile": round(cost, 2),
        "tflop_per_s": round(reached, 4),
    }
    if encoder.device.type == "cpu":
        processor = statistics.median(processor for _, processor in times)
        return row | {"tiles_per_cpu_s": round(batch / processor, 3)}
    peak = _peak()
    return row | ({"mfu": round(reached / peak, 3)} if peak else {})


def encoders(device: str) -> Iterator[Encoder]:
    """Those that can run here, one at a time."""
    for dtype in DTYPES[device]:
        if (NANO_FOLDER / "model.safetensors").is_file():
            yield load_encoder("nano", device=device, dtype=dtype)
        yield random_encoder(ENCODERS["uni2h"], device, dtype)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=sorted(BATCHES), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    batches = BATCHES[arguments.device]
    rows = [measure(e, batches[e.name], arguments.runs) for e in encoders(arguments.device)]
    gpu = torch.cuda.get_device_name() if arguments.device == "cuda" else None
    result = {"threads": arguments.threads, "gpu": gpu, "rows": rows}
    path = write_result(f"encoders_{arguments.device}", result, ("torch", "timm", "numpy"))
    for row in rows:
        print(row)
    print(path)


def _peak() -> float | None:
    """TFLOP/s of this machine's GPU, if it is one of the table."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    return next((peak for card, peak in PEAK_TFLOPS.items() if card in name), None)


if __name__ == "__main__":
    main()
