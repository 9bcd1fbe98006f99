"""Start the confined process for one shard, and believe little of what it answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pixcell_share.bundles._json import parse_json
from pixcell_share.errors import FormatError

_SCRIPT = Path(__file__).with_name("_shard_check.py")
_CPU_SECONDS, _BYTES_PER_CPU_SECOND = 30, 20 << 20
_MAX_ANSWER_BYTES = 64 << 10
_REMEDY = "do not open this bundle with other programs, and tell the site"


def inspect_shard(descriptor: int, name: str, expected: Mapping[str, Any]) -> list[int]:
    """Have a confined process check one shard.

    Args:
        descriptor: the open shard; the process gets nothing else.
        name: the shard's name, for errors.
        expected: ``count``, ``tile_px``, ``mpp`` and ``classes`` of the manifest.

    Returns:
        Tiles of each class.

    Raises:
        FormatError: the shard breaks the format, or the process died of it.
    """
    logical = expected["count"] * 3 * expected["tile_px"] ** 2
    seconds = _CPU_SECONDS + logical // _BYTES_PER_CPU_SECOND
    answer = _ask(descriptor, name, json.dumps(expected).encode(), seconds)
    if isinstance(answer, dict) and set(answer) == {"reason"}:
        raise FormatError(f"{name} {_printable(answer['reason'])}", _REMEDY)
    counts = answer.get("class_counts") if isinstance(answer, dict) else None
    if not isinstance(counts, list) or not all(type(count) is int for count in counts):
        raise FormatError(f"{name} made the process that reads it answer nonsense", _REMEDY)
    return counts


def _ask(descriptor: int, name: str, question: bytes, seconds: int) -> Any:
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout:
        stdin.write(question)
        stdin.seek(0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            status = subprocess.run(
                [sys.executable, "-I", str(_SCRIPT), str(descriptor), str(seconds)],
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.DEVNULL,
                pass_fds=(descriptor,),
                cwd="/",
                env=_environment(),
                timeout=4 * seconds,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired as error:
            raise FormatError(f"{name} took too long to read", _REMEDY) from error
        stdout.seek(0)
        data = stdout.read(_MAX_ANSWER_BYTES)
    if status != 0 or not data:
        raise FormatError(f"{name} broke the process that reads it ({_end(status)})", _REMEDY)
    return parse_json(data, name)


def _environment() -> dict[str, str]:
    """No secrets of the parent; no dynamic HDF5 plug-in; no pool of threads to reserve memory."""
    kept = {k: os.environ[k] for k in ("LD_LIBRARY_PATH",) if k in os.environ}
    return kept | {
        "HDF5_PLUGIN_PRELOAD": "::",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _end(status: int) -> str:
    return f"exit {status}" if status >= 0 else f"signal {-status}"


def _printable(text: object) -> str:
    return "".join(c for c in str(text)[:200] if c.isascii() and c.isprintable())
