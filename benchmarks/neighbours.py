"""Exact nearest neighbours against FAISS's flat index: time, memory, and equal results.

100,000 queries among 100,000 rows of 1,536 numbers, cosine, made up and held in half precision.
The queries come in parts; FAISS (IndexFlatIP) and ours search each part in turn in this process, so
that both meet the same load. FAISS gets rows and queries in single precision at norm 1, prepared
before its clock starts; our time includes reading, scaling and deciding. ``bf16`` screens in bf16
and finds the same (see `pixcell_share.privacy.neighbours`); it is the faster one on a processor
that multiplies bf16.

Memory: the highest resident size of a search that runs before FAISS is loaded, inputs and
libraries included.

Extrapolation to ten million rows by one million queries: the same rate for 2 x 10^7 x 10^6 x 1536
operations. On a GPU the products run at a share of its peak that is stated, not measured here.

    OMP_NUM_THREADS=2 python benchmarks/neighbours.py [--scale 0.1] [--threads 2] [--device cuda]

Writes benchmarks/results/neighbours_<machine>.json, but for --scale below 1.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from _results import write_result
from numpy.typing import NDArray

from pixcell_share.privacy.neighbours import Precision, nearest

ROWS = 100_000
DIM = 1536
PARTS = 4
LARGE = 2 * 10_000_000 * 1_000_000 * DIM
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
GPU_RATES = {"A100, TF32, half of 156 TFLOP/s": 78e12, "H100, bf16, half of 989 TFLOP/s": 494e12}
Half = NDArray[np.float16]


def made_up(rows: int, seed: int) -> Half:
    """Random rows (rows, DIM), drawn in portions."""
    rng = np.random.default_rng(seed)
    result = np.empty((rows, DIM), np.float16)
    for start in range(0, rows, 4096):
        portion = result[start : start + 4096]
        portion[:] = rng.standard_normal(portion.shape, dtype=np.float32)
    return result


def at_norm_one(rows: Half) -> NDArray[np.float32]:
    """Rows in single precision at norm 1."""
    wide = rows.astype(np.float32)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    return wide


def peak_mib() -> float:
    """Highest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def flat_index(rows: Half, threads: int) -> Any:
    """FAISS's exact index of the rows."""
    import faiss

    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatIP(DIM)
    for start in range(0, len(rows), 4096):
        index.add(at_norm_one(rows[start : start + 4096]))
    return index


@contextmanager
def clock(name: str, seconds: dict[str, float], busy: dict[str, float]) -> Iterator[None]:
    """Add the time that the block takes, and the processor time: the latter is what to read where
    others use the machine."""
    began, worked = time.perf_counter(), time.process_time()
    yield
    seconds[name] += time.perf_counter() - began
    busy[name] += time.process_time() - worked


def compare(queries: Half, rows: Half, threads: int, device: str) -> dict[str, Any]:
    """Seconds of each, and on how many queries they disagree."""
    index = flat_index(rows, threads)
    seconds = dict.fromkeys(("faiss", *PRECISIONS), 0.0)
    busy = dict.fromkeys(seconds, 0.0)
    other = dict.fromkeys(PRECISIONS, 0)
    off = 0.0
    for part in np.array_split(queries, PARTS):
        prepared = at_norm_one(part)
        with clock("faiss", seconds, busy):
            cosines, expected = index.search(prepared, 1)
        del prepared
        for precision in PRECISIONS:
            with clock(precision, seconds, busy):
                found = nearest(part, rows, 1, device=device, precision=precision)
            other[precision] += int((found.indices != expected).sum())
            off = max(off, float(np.abs(1 - found.distances - cosines).max()))
        print({name: round(value, 1) for name, value in seconds.items()}, other, flush=True)
    return {
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "processor_seconds": {name: round(value, 2) for name, value in busy.items()},
        "times_as_fast_as_faiss": {
            name: round(seconds["faiss"] / seconds[name], 3) for name in PRECISIONS
        },
        "queries_with_another_neighbour": other,
        "largest_difference_of_a_cosine": off,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="share of rows and of queries")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    count = int(ROWS * options.scale)
    queries, rows = made_up(count, 0), made_up(count, 1)
    before = peak_mib()
    for precision in PRECISIONS:
        nearest(queries[:4096], rows, 1, device=options.device, precision=precision)
    peak = peak_mib()
    compared = compare(queries, rows, options.threads, options.device)
    work = 2 * count * count * DIM
    rates = {name: work / seconds for name, seconds in compared["seconds"].items()}
    hours = {f"{name}, {options.threads} threads": LARGE / r / 3600 for name, r in rates.items()}
    gpus = {name: LARGE / rate / 3600 for name, rate in GPU_RATES.items()}
    result = {
        "rows": count,
        "queries": count,
        "dim": DIM,
        "threads": options.threads,
        "device": options.device,
        **compared,
        "gflops": {name: round(rate / 1e9, 1) for name, rate in rates.items()},
        "peak_mib_before_and_with_search": [round(before), round(peak)],
        "hours_for_ten_million_by_one_million": {
            name: round(value, 2) for name, value in {**hours, **gpus}.items()
        },
    }
    print(result)
    if options.scale == 1.0:
        print(write_result("neighbours", result, ("numpy", "torch", "faiss-cpu")))


if __name__ == "__main__":
    main()
