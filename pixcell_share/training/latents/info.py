"""``store.json``: what the numbers of a latent store are, and how many there should be."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from pixcell_share.errors import DataError, SettingsError
from pixcell_share.files import atomic_write_text

Split = Literal["train", "holdout"]
SPLITS: tuple[Split, ...] = ("train", "holdout")
TILE_PX = 256
"""Side of the tiles that are embedded, in pixels of a region."""

_FILE = "store.json"
_SCHEMA = 1
_BYTES = 2  # of a float16


@dataclass(frozen=True, kw_only=True)
class StoreInfo:
    """What every row of a store has in common."""

    region_px: int
    """Side of a region: 1024, 512 or 256."""
    grid: int
    """Embeddings along one side of a region."""
    mpp: float | None
    """Resolution in µm/px; None where the pictures did not say."""
    latent_channels: int
    """Channels of the VAE, 16 with SD3.5's."""
    latent_side: int
    """Latent pixels along one side of a region, an eighth of ``region_px`` with SD3.5's VAE."""
    embedding_dim: int
    """Length of an embedding, 1536 with UNI2-h."""
    scaling_factor: float
    """Of the VAE: the model learns ``(z - shift_factor) * scaling_factor``; the rows hold z."""
    shift_factor: float
    """Of the VAE."""
    vae: dict[str, Any]
    """The VAE's `ModelIdentity`."""
    encoder: dict[str, Any]
    """The encoder's `ModelIdentity`."""
    vae_source: str
    """What ``--vae`` was: ``nano``, a folder or a repository."""
    encoder_source: str
    """What ``--encoder`` was: a name of the registry."""
    encoder_weights: str | None
    """What ``--weights`` was."""
    turns: int = 1
    """Orientations stored of each region, each a row of its own."""
    shard_rows: int = 0
    """Rows of a full shard."""
    making: dict[str, Any] = field(default_factory=dict)
    """The other settings that the store was made with."""

    @property
    def tokens(self) -> int:
        """Embeddings of a region."""
        return self.grid**2

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape of the latents of one row."""
        return self.latent_channels, self.latent_side, self.latent_side

    @property
    def embedding_shape(self) -> tuple[int, int]:
        """Shape of the embeddings of one row."""
        return self.tokens, self.embedding_dim

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, latents and embeddings."""
        latents = self.latent_channels * self.latent_side**2
        return _BYTES * (latents + self.tokens * self.embedding_dim)


@dataclass(frozen=True, kw_only=True)
class StoreFile:
    """The whole of ``store.json``."""

    info: StoreInfo
    shards: dict[str, list[int]] | None = None
    """Rows of each shard, by split; None until the store is finished."""

    @property
    def finished(self) -> bool:
        """Whether the store was made to its end."""
        return self.shards is not None


def rows_of_a_shard(row_bytes: int, shard_mb: float, turns: int = 1) -> int:
    """Rows that fit into ``shard_mb`` MiB; the orientations of a region stay together.

    Raises:
        SettingsError: not even one region does.
    """
    rows = int(shard_mb * 2**20) // (row_bytes * turns) * turns
    if rows < 1:
        raise SettingsError(
            f"a shard of {shard_mb:g} MB holds no region of {row_bytes * turns} bytes",
            "give a larger --shard-mb, such as 2048",
        )
    return rows


def write_store_file(folder: Path, stored: StoreFile) -> None:
    """Write ``store.json``."""
    value = {"schema": _SCHEMA, "shards": stored.shards, **asdict(stored.info)}
    atomic_write_text(folder / _FILE, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def has_store_file(folder: Path) -> bool:
    """Whether a store was begun in ``folder``."""
    return (folder / _FILE).is_file()


def forget_store_file(folder: Path) -> None:
    """Remove ``store.json``."""
    (folder / _FILE).unlink()


def read_store_file(folder: Path) -> StoreFile:
    """Read ``store.json``.

    Raises:
        SettingsError: there is no store in ``folder``.
        DataError: the file is damaged, or of a later version.
    """
    path = folder / _FILE
    if not path.is_file():
        raise SettingsError(
            f"there is no latent store in {folder}: {_FILE} is missing",
            "name a folder that `pixcell-train latents` made",
        )
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["schema"] != _SCHEMA:
            raise ValueError(f"it is of version {value['schema']}, this program reads {_SCHEMA}")
        known = {name.name: value[name.name] for name in fields(StoreInfo)}
        stored = StoreFile(info=StoreInfo(**known), shards=_counts(value["shards"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} does not describe a latent store: {error!r}", "make the store again"
        ) from error
    return stored


def _counts(value: Any) -> dict[str, list[int]] | None:
    if value is None:
        return None
    return {split: [int(rows) for rows in value[split]] for split in SPLITS}
