"""k-NN evaluation against thunder-bench's own functions: time, and the same figures.

100,000 training, 20,000 validation and 20,000 test embeddings of 768 numbers, made up: 180 kinds of
tissue in 9 classes, a spectrum that falls with the number of the component, as encoders' do, and
wrong labels for a tenth. Both go through the whole protocol: k on the validation part among eight,
then the test part with it, then the figures with their intervals.

Thunder (``topk_retrieval``, ``compute_metrics``) and ours take turns, part by part of the queries,
in this process, so that both meet the same load. Its search is called with 10,000 queries a product
in any case, so parts of 5,000 cost it nothing. Where others use the machine, the processor time is
what to read. Most of ours is one product in whole numbers, at the processor's peak rate (VNNI): on
two idle cores it runs on both, whereas Thunder sorts on one.

    pip install --no-deps thunder-bench==0.2.2
    OMP_NUM_THREADS=2 python benchmarks/knn_evaluation.py [--scale 0.1] [--flat]

``--flat`` makes embeddings without any structure, on which ours has no advantage but not to sort.
Writes benchmarks/results/knn_evaluation_<machine>.json, but for --scale below 1 or --flat.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from _results import write_result
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pixcell_share.evaluation import KS, METRICS, estimates, macro_f1
from pixcell_share.evaluation.votes import Voters
from tests.evaluation.thunder_oracle import thunder

TRAIN, QUERIES, DIM, CLASSES, KINDS = 100_000, 20_000, 768, 9, 180
PARTS = 4
NOISE, WRONG = 1.5, 0.1
PACKAGES = ("numpy", "scipy", "torch", "scikit-learn", "thunder-bench")


class Tiles(NamedTuple):
    """Embeddings (N, D) and classes (N,)."""

    embeddings: NDArray[np.float32]
    labels: NDArray[np.int64]


class MadeUp:
    """Embeddings with the structure described above, or without any."""

    def __init__(self, flat: bool) -> None:
        rng = np.random.default_rng(0)
        spectrum = np.arange(1, DIM + 1) ** (0.0 if flat else -0.5)
        self._spectrum = spectrum.astype(np.float32)
        self._turn = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0].astype(np.float32)
        self._kinds = rng.standard_normal((KINDS, DIM)).astype(np.float32) * self._spectrum
        self._mean = rng.standard_normal(DIM).astype(np.float32) * self._spectrum.std()

    def draw(self, count: int, seed: int) -> Tiles:
        """Some tiles."""
        rng = np.random.default_rng(seed)
        kinds = rng.integers(0, KINDS, count)
        noise = NOISE * rng.standard_normal((count, DIM), dtype=np.float32) * self._spectrum
        guessed = rng.integers(0, CLASSES, count)
        labels = np.where(rng.random(count) < WRONG, guessed, kinds % CLASSES)
        return Tiles((self._kinds[kinds] + noise) @ self._turn + self._mean, labels)


class Clock:
    """Seconds and processor seconds of each turn."""

    def __init__(self) -> None:
        self.turns: dict[str, list[tuple[str, float, float]]] = {"thunder": [], "ours": []}

    def time(self, who: str, step: str, work: Callable[[], Any]) -> Any:
        """What ``work`` gives; its time is noted."""
        began, worked = time.perf_counter(), time.process_time()
        result = work()
        spent = time.perf_counter() - began, time.process_time() - worked
        self.turns[who].append((step, *spent))
        print(f"{who:8} {step:12} {spent[0]:8.2f} s {spent[1]:8.2f} s of processor", flush=True)
        return result

    def total(self, who: str, column: int) -> float:
        """Seconds (column 1) or processor seconds (2) of all turns."""
        return sum(turn[column] for turn in self.turns[who])

    def ratios(self, column: int) -> dict[str, float]:
        """Median over the turns of each step."""
        steps = dict.fromkeys(step for step, *_ in self.turns["thunder"])
        theirs, ours = (
            {step: [t[column] for t in turns if t[0] == step] for step in steps}
            for turns in self.turns.values()
        )
        ratios = {step: np.divide(theirs[step], ours[step]) for step in steps}
        return {step: round(float(np.median(each)), 2) for step, each in ratios.items()}


def votes_of(found: dict[int, dict[str, Any]], ks: tuple[int, ...]) -> dict[int, list[int]]:
    return {k: found[k]["per_sample_pred"] for k in ks}


def search(
    clock: Clock, voters: Voters, train: Tiles, queries: Tiles, ks: tuple[int, ...], step: str
) -> tuple[dict[int, NDArray[np.int64]], dict[int, NDArray[np.int64]]]:
    """Votes of both, part by part."""
    retrieval = thunder("tasks.image_retrieval").topk_retrieval
    parts: dict[str, list[dict[int, Any]]] = {"thunder": [], "ours": []}
    for rows in np.array_split(np.arange(len(queries.labels)), PARTS):
        part, labels = queries.embeddings[rows], queries.labels[rows]
        found, *_ = clock.time(
            "thunder",
            step,
            lambda part=part, labels=labels: retrieval(
                *train, part, labels, list(ks), disable_progress_bar=True, compute_ci=False
            ),
        )
        parts["thunder"].append(votes_of(found, ks))
        del found
        parts["ours"].append(clock.time("ours", step, lambda part=part: voters.votes(part, ks)))
    theirs, ours = (
        {k: np.concatenate([each[k] for each in own]) for k in ks} for own in parts.values()
    )
    return theirs, ours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="share of all tiles")
    parser.add_argument("--flat", action="store_true", help="embeddings without structure")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    made, count = MadeUp(options.flat), int(QUERIES * options.scale)
    train = made.draw(int(TRAIN * options.scale), 1)
    val, test = made.draw(count, 2), made.draw(count, 3)
    thunder("tasks.image_retrieval")
    clock = Clock()
    voters = clock.time("ours", "prepare", lambda: Voters(*train))
    theirs, ours = search(clock, voters, train, val, KS, "validation")
    same = {f"validation, k = {k}": bool(np.array_equal(theirs[k], ours[k])) for k in KS}
    k = max(KS, key=lambda k: macro_f1(val.labels, ours[k]))
    theirs, ours = search(clock, voters, train, test, (k,), "test")
    same[f"test, k = {k}"] = bool(np.array_equal(theirs[k], ours[k]))
    metrics = thunder("utils.downstream_metrics").compute_metrics
    figures = clock.time("thunder", "figures", lambda: metrics(None, theirs[k], test.labels))
    own = clock.time("ours", "figures", lambda: estimates(test.labels, ours[k]))
    expected = {
        name: [figures[name][key] for key in ("metric_score", "ci_low", "ci_high")]
        for name in METRICS
    }
    same["figures"] = expected == {n: [f.value, f.low, f.high] for n, f in own.items()}
    result = {
        "train": len(train.labels),
        "validation": count,
        "test": count,
        "dim": DIM,
        "threads": options.threads,
        "chosen_k": k,
        "same": same,
        "figures": {name: [round(v, 6) for v in values] for name, values in expected.items()},
        "seconds": {who: round(clock.total(who, 1), 2) for who in clock.turns},
        "processor_seconds": {who: round(clock.total(who, 2), 2) for who in clock.turns},
        "times_as_fast": round(clock.total("thunder", 1) / clock.total("ours", 1), 2),
        "times_less_processor": round(clock.total("thunder", 2) / clock.total("ours", 2), 2),
        "median_times_as_fast_by_step": clock.ratios(1),
        "median_times_less_processor_by_step": clock.ratios(2),
    }
    print(result)
    if options.scale == 1.0 and not options.flat:
        print(write_result("knn_evaluation", result, PACKAGES))


if __name__ == "__main__":
    main()
