"""The files of one shard: names, ``.npy`` headers, the index, and what can be wrong with them.

Plain ``.npy`` and CSV, so that NumPy alone opens a shard::

    train-00000.latents.npy       float16 (N, C, S, S)   means of the VAE's posterior, unscaled
    train-00000.embeddings.npy    float16 (N, T, D)      row-major grid of the region's tiles
    train-00000.csv               N rows: slide, case, organ, source, x, y, turn, file
    train-00000.sha256            digests of the three, for `sha256sum -c`; written last
"""

from __future__ import annotations

import csv
import hashlib
import mmap
import re
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixcell_share.training.latents.info import StoreInfo

Rows = NDArray[np.float16]
DTYPE = np.dtype("<f2")
LATENTS, EMBEDDINGS, INDEX, DIGESTS = "latents.npy", "embeddings.npy", "csv", "sha256"
PARTS = (LATENTS, EMBEDDINGS, INDEX)
"""What a shard needs; the digests are for `pixcell-train latents check`."""

_CHUNK = 2**22
_BREAK = re.compile(r"[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+")
_NAME = re.compile(r"(train|holdout)-(\d{5,})\.(latents\.npy|embeddings\.npy|csv)")


@dataclass(frozen=True)
class IndexRow:
    """Where one row comes from."""

    slide: str
    case: str = ""
    """The patient; empty where no table names it."""
    organ: str = ""
    source: str = ""
    """The collection, such as ``TCGA``."""
    x: str = ""
    """Left edge in pixels of level 0; empty for a picture that is no part of a known slide."""
    y: str = ""
    turn: str = "0"
    """Orientation, see `turned`: 0 is as it was scanned."""
    file: str = ""
    """The picture, relative to the folder of regions; empty for slides."""


COLUMNS = tuple(column.name for column in fields(IndexRow))


def stem(split: str, number: int) -> str:
    """``train-00000``."""
    return f"{split}-{number:05d}"


def found_numbers(folder: Path, split: str) -> set[int]:
    """Numbers of the shards of which ``folder`` holds any part."""
    matches = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    return {int(match[2]) for match in matches if match and match[1] == split}


def shard_fault(folder: Path, name: str, info: StoreInfo) -> str | None:
    """What is wrong with a shard, in one clause; None if it can be read.

    Reads headers, sizes and the number of lines of the index, not the numbers.
    """
    missing = [part for part in PARTS if not (folder / f"{name}.{part}").is_file()]
    if missing:
        return f"{', '.join(f'{name}.{part}' for part in missing)} is missing"
    try:
        latents = _rows(folder / f"{name}.{LATENTS}", info.latent_shape)
        embeddings = _rows(folder / f"{name}.{EMBEDDINGS}", info.embedding_shape)
        indexed = count_index(folder / f"{name}.{INDEX}")
    except (OSError, ValueError) as error:
        return str(error)
    if not latents == embeddings == indexed:
        return (
            f"{name} holds {latents} rows of latents, {embeddings} of embeddings "
            f"and {indexed} of the index"
        )
    return None if latents else f"{name} holds no row"


def open_rows(path: Path) -> Rows:
    """The array of a sound ``.npy`` file, memory-mapped."""
    # As a plain array: taking a row of a `numpy.memmap` costs more than copying a small one.
    rows: Rows = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    return rows


def _rows(path: Path, shape: tuple[int, ...]) -> int:
    """The number of rows that a file's header says, after checking it against the file.

    Raises:
        ValueError: says what is wrong.
    """
    with path.open("rb") as stream:
        try:
            version = np.lib.format.read_magic(stream)
            if version != (1, 0):
                raise ValueError(f"version {version} of the format")
            found, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        except ValueError as error:
            raise ValueError(f"{path.name} is no .npy file of ours: {error}") from error
        start = stream.tell()
    if dtype != DTYPE or fortran or found[1:] != shape:
        listed = " x ".join(map(str, ("N", *shape)))
        raise ValueError(f"{path.name} is {dtype} {found}, not float16 {listed}")
    expected = start + int(np.prod(found, dtype=np.int64)) * DTYPE.itemsize
    size = path.stat().st_size
    if size != expected:
        word = "truncated" if size < expected else "too long"
        raise ValueError(f"{path.name} is {word}: {size} bytes, its header says {expected}")
    return int(found[0])


def header(rows: int, shape: tuple[int, ...]) -> dict[str, Any]:
    """For `numpy.lib.format`; its length does not depend on ``rows``."""
    return {"descr": DTYPE.str, "fortran_order": False, "shape": (rows, *shape)}


# -- the index --------------------------------------------------------------------------------


def index_line(row: IndexRow) -> str:
    """One line of an index: always one, whatever a slide is called."""
    return ",".join(_cell(value) for value in astuple(row)) + "\n"


def _cell(value: str) -> str:
    flat = _BREAK.sub(" ", value)
    return '"' + flat.replace('"', '""') + '"' if re.search(r'[",]', flat) else flat


def index_head() -> str:
    """The first line of an index."""
    return ",".join(COLUMNS) + "\n"


def count_index(path: Path) -> int:
    """Rows of an index, by its lines.

    Raises:
        ValueError: it is empty, cut off in a line, or has another head.
    """
    head = index_head().encode()
    with path.open("rb") as stream:
        if stream.read(len(head)) != head:
            raise ValueError(f"{path.name} does not begin with the columns {','.join(COLUMNS)}")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as text:
            if text[-1:] != b"\n":
                raise ValueError(f"{path.name} is truncated: its last line has no end")
            starts = range(0, len(text), _CHUNK)
            return sum(text[start : start + _CHUNK].count(b"\n") for start in starts) - 1


def read_index(path: Path) -> list[IndexRow]:
    """The rows of an index.

    Raises:
        ValueError: a row has another number of fields.
    """
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.reader(stream, strict=True)
        next(reader, None)
        try:
            return [IndexRow(*_checked(cells, path, reader.line_num)) for cells in reader]
        except csv.Error as error:
            raise ValueError(f"{path.name}, line {reader.line_num}: {error}") from error


def _checked(cells: list[str], path: Path, line: int) -> list[str]:
    if len(cells) != len(COLUMNS):
        raise ValueError(f"{path.name}, line {line}: {len(cells)} fields, not {len(COLUMNS)}")
    return cells


# -- digests ----------------------------------------------------------------------------------


def digest_lines(folder: Path, name: str, locate: Callable[[str], Path]) -> str:
    """What ``sha256sum`` prints for the parts of a shard.

    Args:
        folder: of the store.
        name: of the shard.
        locate: from a part to the file that holds it now.
    """
    lines = []
    for part in PARTS:
        with locate(part).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        lines.append(f"{digest}  {name}.{part}\n")
    return "".join(lines)
