"""Confine, check, answer.

Arguments: the shard's descriptor, seconds of processor time, and a descriptor to write to, or -1.
Standard input: ``{"count", "tile_px", "mpp", "classes"}``. Standard output: one of
``{"class_counts": [...]}`` and ``{"reason", "fault"}``.

What is written to the descriptor, in the byte order of the machine: ``images`` (count, px, px, 3),
``labels`` (count,) and one `look.LOOK` for each tile. It may break off at any place; only the
answer says whether it is whole.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np

from pixcell_share.bundles._confined.look import LOOK, look_at
from pixcell_share.bundles._confined.sandbox import confine
from pixcell_share.bundles._confined.shard import OpenShard, RefusalError, opened_shard


def main() -> None:
    """Answer one question about one shard, and end."""
    descriptor, cpu_seconds, output = (int(word) for word in sys.argv[1:4])
    expected = json.load(sys.stdin)
    confine(cpu_seconds)
    try:
        answer = _examine(descriptor, expected, output)
    except RefusalError as refusal:
        answer = {"reason": str(refusal), "fault": refusal.fault}
    except BrokenPipeError:  # nobody waits for the rest
        os._exit(1)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError):
        reason = "cannot be read as HDF5: it is damaged or truncated"
        answer = {"reason": reason, "fault": "hdf5_damaged"}
    json.dump(answer, sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # HDF5's closing code need not run on what may be damaged


def _examine(descriptor: int, expected: dict[str, Any], output: int) -> dict[str, Any]:
    with opened_shard(descriptor, expected) as shard:
        counts, labels = shard.read_labels(len(expected["classes"]))
        if output >= 0:
            _send(shard, labels, output)
        elif shard.is_chunked:
            for _ in shard.blocks():  # a broken chunk shows here, not months later in training
                pass
    return {"class_counts": counts}


def _send(shard: OpenShard, labels: np.ndarray, output: int) -> None:
    looks = np.empty(len(labels), LOOK)
    start = 0
    for block in shard.blocks():
        _write(output, block)
        look_at(block, looks[start : start + len(block)])
        start += len(block)
    _write(output, labels)
    _write(output, looks)


def _write(output: int, array: np.ndarray) -> None:
    rest = array.reshape(-1).view(np.uint8).data
    while rest:
        rest = rest[os.write(output, rest) :]
