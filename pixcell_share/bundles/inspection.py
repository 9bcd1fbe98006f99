"""Start the confined process for one shard, and believe little of what it answers."""

from __future__ import annotations

import fcntl
import io
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pixcell_share.bundles._confined.look import LOOK
from pixcell_share.bundles._json import parse_json
from pixcell_share.bundles.faults import Fault
from pixcell_share.errors import FormatError

_PROGRAM = Path(__file__).with_name("_confined")
_CPU_SECONDS, _BYTES_PER_CPU_SECOND = 60, 20 << 20
_STALL_SECONDS = 300.0
"""How long the process may take for its next bytes; many times what 16 MiB of deflate need."""
_PIPE_BYTES = 1 << 20
_MAX_ANSWER_BYTES = 64 << 10
_REMEDY = "do not open this bundle with other programs, and tell the site"


@dataclass(frozen=True)
class ShardFacts:
    """What a confined process found in a shard of N tiles that is whole and plain."""

    class_counts: tuple[int, ...]
    labels: NDArray[np.int64]
    """(N,) places in the manifest's classes."""
    looks: NDArray[np.void]
    """(N,) of type `_confined.look.LOOK`."""


class ShardStream(io.RawIOBase):
    """The pixels of one shard as a confined process unpacks them: a file to read once.

    It ends after count x px x px x 3 bytes, as the manifest states; `finish` then says whether they
    were those of a good shard. Until it has, nothing may be made of the bytes.
    """

    def __init__(self, name: str, expected: Mapping[str, Any], process: _Process) -> None:
        super().__init__()
        self._name, self._process = name, process
        self._count, self._classes = expected["count"], len(expected["classes"])
        self.pixel_bytes: int = _pixel_bytes(expected)
        self._left = self.pixel_bytes

    @classmethod
    @contextmanager
    def opened(
        cls, descriptor: int, name: str, expected: Mapping[str, Any]
    ) -> Iterator[ShardStream]:
        """Start the process for a shard.

        Args:
            descriptor: the open shard; the process gets nothing else.
            name: the shard's name, for errors.
            expected: ``count``, ``tile_px``, ``mpp`` and ``classes`` of the manifest.
        """
        read_end, write_end = os.pipe()
        try:
            with _started(descriptor, name, expected, write_end) as process:
                os.close(write_end)
                process.output, write_end = read_end, -1
                yield cls(name, expected, process)
        finally:
            for end in (read_end, write_end):
                if end >= 0:
                    os.close(end)

    def readable(self) -> bool:
        """True: it is a file for reading."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next pixels.

        Raises:
            FormatError: the process refused the shard, died, or stopped sending.
        """
        view = memoryview(buffer).cast("B")[: self._left]
        if not view:
            return 0
        count = self._process.receive(view)
        if count == 0:
            self._process.answer()
            raise self._nonsense()
        self._left -= count
        return count

    def finish(self) -> ShardFacts:
        """What was found, once all pixels were read.

        Raises:
            FormatError: the process refused the shard, died, or talked nonsense.
        """
        labels = self._array(np.dtype(np.int64))
        looks = self._array(LOOK)
        counts = _class_counts(self._name, self._process.answer())
        if self._left or not _agree(labels, counts, self._classes):
            raise self._nonsense()
        return ShardFacts(tuple(counts), labels, looks)

    def _array(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        array = np.zeros(self._count, dtype)
        rest = array.view(np.uint8).data
        while rest and (count := self._process.receive(rest)):
            rest = rest[count:]
        return array

    def _nonsense(self) -> FormatError:
        return _nonsense(self._name)


def inspect_shard(descriptor: int, name: str, expected: Mapping[str, Any]) -> list[int]:
    """Have a confined process check one shard; arguments are those of `ShardStream.opened`.

    Returns:
        Tiles of each class.

    Raises:
        FormatError: the shard breaks the format, or the process died of it.
    """
    with _started(descriptor, name, expected, None) as process:
        return _class_counts(name, process.answer())


@dataclass
class _Process:
    """The running process; `output` is our end of its pipe."""

    name: str
    popen: subprocess.Popen[bytes]
    stdout: IO[bytes]
    seconds: int
    output: int = -1

    def receive(self, view: memoryview) -> int:
        """Some bytes of its pipe; 0 when it closed it."""
        ready, _, _ = select.select([self.output], [], [], _STALL_SECONDS)
        if not ready:
            raise _slow(self.name)
        return os.readv(self.output, [view])

    def answer(self) -> Any:
        """Wait for its end; its answer if it is one.

        Raises:
            FormatError: it refused the shard, died, or took too long.
        """
        try:
            status = self.popen.wait(4 * self.seconds)
        except subprocess.TimeoutExpired as error:
            raise _slow(self.name) from error
        self.stdout.seek(0)
        data = self.stdout.read(_MAX_ANSWER_BYTES)
        if status != 0 or not data:
            cause = f"{self.name} broke the process that reads it ({_end(status)})"
            raise FormatError(cause, _REMEDY, Fault.READER_DIED)
        answer = parse_json(data, self.name)
        if isinstance(answer, dict) and set(answer) == {"reason", "fault"}:
            cause = f"{self.name} {_printable(answer['reason'])}"
            raise FormatError(cause, _REMEDY, _fault(self.name, answer["fault"]))
        return answer


@contextmanager
def _started(
    descriptor: int, name: str, expected: Mapping[str, Any], output: int | None
) -> Iterator[_Process]:
    seconds = _CPU_SECONDS + _pixel_bytes(expected) // _BYTES_PER_CPU_SECOND
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout:
        stdin.write(json.dumps(expected).encode())
        stdin.seek(0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        handed = (descriptor,) if output is None else (descriptor, output)
        if output is not None:
            _widen(output)
        arguments = (str(descriptor), str(seconds), str(-1 if output is None else output))
        popen = subprocess.Popen(
            [sys.executable, "-I", str(_PROGRAM), *arguments],
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.DEVNULL,
            pass_fds=handed,
            cwd="/",
            env=_environment(),
        )
        try:
            yield _Process(name, popen, stdout, seconds)
        finally:
            popen.kill()
            popen.wait()


def _widen(pipe: int) -> None:
    """Fewer switches between the processes; where the system has less to give, it stays."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        try:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        except PermissionError:
            return


def _pixel_bytes(expected: Mapping[str, Any]) -> int:
    return int(expected["count"]) * 3 * int(expected["tile_px"]) ** 2


def _class_counts(name: str, answer: Any) -> list[int]:
    counts = answer.get("class_counts") if isinstance(answer, dict) else None
    if not isinstance(counts, list) or not all(type(count) is int for count in counts):
        raise _nonsense(name)
    return counts


def _agree(labels: NDArray[np.int64], counts: list[int], classes: int) -> bool:
    """Whether the labels that came are those that were counted."""
    if labels.min() < 0 or labels.max() >= classes:
        return False
    return bool(np.bincount(labels, minlength=classes).tolist() == counts)


def _environment() -> dict[str, str]:
    """No secrets of the parent; no dynamic HDF5 plug-in; no pool of threads to reserve memory."""
    kept = {k: os.environ[k] for k in ("LD_LIBRARY_PATH",) if k in os.environ}
    return kept | {
        "HDF5_PLUGIN_PRELOAD": "::",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _fault(name: str, code: object) -> Fault:
    try:
        return Fault(str(code))
    except ValueError as error:
        raise _nonsense(name) from error


def _nonsense(name: str) -> FormatError:
    cause = f"{name} made the process that reads it answer nonsense"
    return FormatError(cause, _REMEDY, Fault.READER_TALKED_NONSENSE)


def _slow(name: str) -> FormatError:
    return FormatError(f"{name} took too long to read", _REMEDY, Fault.READER_TOO_SLOW)


def _end(status: int) -> str:
    return f"exit {status}" if status >= 0 else f"signal {-status}"


def _printable(text: object) -> str:
    return "".join(c for c in str(text)[:200] if c.isascii() and c.isprintable())
