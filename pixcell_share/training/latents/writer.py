"""Write a store row by row; what a killed run left is whole shards and nothing else."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from pixcell_share.errors import WorkFolderError
from pixcell_share.files import storage_errors
from pixcell_share.training.latents.info import (
    SPLITS,
    Split,
    StoreFile,
    StoreInfo,
    has_store_file,
    read_store_file,
    write_store_file,
)
from pixcell_share.training.latents.shards import (
    DIGESTS,
    DTYPE,
    EMBEDDINGS,
    INDEX,
    LATENTS,
    PARTS,
    IndexRow,
    Rows,
    digest_lines,
    header,
    index_head,
    index_line,
    open_rows,
    stem,
)


class StoreWriter:
    """Makes a store, or goes on after its last whole shards.

    Rows come one by one, each with its split. A shard is written under temporary names; when it
    is full, its files are renamed and its digests, written last, say that it is whole.

    Args:
        folder: of the store, new or begun with the same ``info``.
        info: of the store; ``info.shard_rows`` rows make a shard.

    Raises:
        WorkFolderError: the folder holds a store of other settings.
        StorageError: the folder cannot be written.
    """

    def __init__(self, folder: Path, info: StoreInfo) -> None:
        self.folder = folder
        self.info = info
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self.finished = self._agree()
        self._clear_unfinished()
        self._done = {split: self._whole(split) for split in SPLITS}
        self._open: dict[Split, _Shard] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for shard in self._open.values():
            shard.discard()
        self._open = {}

    def rows_done(self, split: Split) -> int:
        """Rows of ``split`` that lie in whole shards."""
        return sum(self._done[split])

    def room(self, split: Split) -> int:
        """Rows that the shard at work can still take."""
        shard = self._open.get(split)
        return self.info.shard_rows - (shard.rows if shard else 0)

    def add(self, split: Split, latents: Rows, embeddings: Rows, row: IndexRow) -> None:
        """Append one row.

        Args:
            split: ``train`` or ``holdout``.
            latents: float16 (C, S, S), unscaled.
            embeddings: float16 (T, D), row by row of the grid.
            row: where it comes from.

        Raises:
            ValueError: another shape or number format.
            StorageError: the disk is full.
        """
        with storage_errors(self.folder / stem(split, len(self._done[split]))):
            if split not in self._open:
                number = len(self._done[split])
                self._open[split] = _Shard(self.folder, stem(split, number), self.info)
            shard = self._open[split]
            shard.add(latents, embeddings, row)
            if shard.rows == self.info.shard_rows:
                self._close(split)

    def finish(self) -> None:
        """Close the last shards and mark the store as finished."""
        for split in list(self._open):
            with storage_errors(self.folder):
                self._close(split)
        shards: dict[str, list[int]] = {split: self._done[split] for split in SPLITS}
        write_store_file(self.folder, StoreFile(info=self.info, shards=shards))
        self.finished = True

    def _close(self, split: Split) -> None:
        shard = self._open.pop(split)
        shard.close()
        self._done[split].append(shard.rows)

    def _agree(self) -> bool:
        """Whether the store is finished; writes its description if it is new."""
        if not has_store_file(self.folder):
            write_store_file(self.folder, StoreFile(info=self.info))
            return False
        stored = read_store_file(self.folder)
        if stored.info != self.info:
            raise WorkFolderError(
                f"{self.folder} was made with other settings: {_change(stored.info, self.info)}",
                "use the same settings to go on, or choose another --out",
            )
        return stored.finished

    def _clear_unfinished(self) -> None:
        for path in self.folder.glob(".*.part"):
            path.unlink()

    def _whole(self, split: Split) -> list[int]:
        """Rows of each shard that was renamed as a whole, up to the first that was not."""
        rows: list[int] = []
        while self._is_whole(name := stem(split, len(rows))):
            rows.append(len(open_rows(self.folder / f"{name}.{LATENTS}")))
        return rows

    def _is_whole(self, name: str) -> bool:
        return all((self.folder / f"{name}.{part}").is_file() for part in (*PARTS, DIGESTS))


def _change(before: StoreInfo, now: StoreInfo) -> str:
    pairs = {
        name: (old, getattr(now, name))
        for name, old in vars(before).items()
        if old != getattr(now, name)
    }
    nested = pairs.pop("making", None)
    if nested:
        pairs |= {key: (nested[0].get(key), value) for key, value in nested[1].items()
                  if nested[0].get(key) != value}  # fmt: skip
    return "; ".join(f"{name} was {old!r}, now {new!r}" for name, (old, new) in pairs.items())


class _Shard:
    """A shard at work: three open files under temporary names."""

    def __init__(self, folder: Path, name: str, info: StoreInfo) -> None:
        self.rows = 0
        self._folder, self._name = folder, name
        self._shapes = {LATENTS: info.latent_shape, EMBEDDINGS: info.embedding_shape}
        with ExitStack() as stack:
            self._files: dict[str, BinaryIO] = {
                part: stack.enter_context(self._part(part).open("wb")) for part in PARTS
            }
            stack.pop_all()
        self._write_headers()
        self._files[INDEX].write(index_head().encode())

    def add(self, latents: Rows, embeddings: Rows, row: IndexRow) -> None:
        for part, values in ((LATENTS, latents), (EMBEDDINGS, embeddings)):
            if values.shape != self._shapes[part] or values.dtype != DTYPE:
                raise ValueError(f"{part}: {values.dtype} {values.shape}, not {self._shapes[part]}")
            self._files[part].write(np.ascontiguousarray(values).data)
        self._files[INDEX].write(index_line(row).encode())
        self.rows += 1

    def close(self) -> None:
        """Rename the parts, then write the digests: with them the shard is whole."""
        self._write_headers()
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()
        digests = self._part(DIGESTS)
        digests.write_text(digest_lines(self._folder, self._name, self._part))
        for part in (*PARTS, DIGESTS):
            self._part(part).replace(self._folder / f"{self._name}.{part}")

    def discard(self) -> None:
        """Forget the rows: the next run reads them again."""
        for part, file in self._files.items():
            file.close()
            self._part(part).unlink(missing_ok=True)

    def _write_headers(self) -> None:
        """The headers with the present number of rows; their length is always the same."""
        for part, shape in self._shapes.items():
            file = self._files[part]
            file.seek(0)
            np.lib.format.write_array_header_1_0(file, header(self.rows, shape))

    def _part(self, part: str) -> Path:
        return self._folder / f".{self._name}.{part}.part"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep a second process out of a store; the system frees the lock however this one ends.

    Raises:
        WorkFolderError: another process is writing the store.
        StorageError: the folder cannot be written.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WorkFolderError(
                f"another process is writing {folder}", "wait for it, or choose another --out"
            ) from error
        yield
