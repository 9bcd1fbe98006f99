"""What a bundle says about its cohort, as typed objects. Reading and writing them is apart."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass

from pixcell_share.bundles._lookalikes import is_misleading, skeleton
from pixcell_share.bundles.faults import Fault, UnfitError
from pixcell_share.weights import ModelIdentity

SCHEMA_VERSION = 1
MAX_NAME_LENGTH = 64
MAX_CLASSES = 1000
TILE_PX_RANGE = (16, 4096)
_PUNCTUATION = frozenset(" .,()+&'_-")


@dataclass(frozen=True)
class GenerationSettings:
    """How the tiles were sampled."""

    sampler: str
    """The sampler's name, such as ``dpm-solver++``."""
    steps: int
    """Denoising steps per tile."""
    guidance_scale: float
    """Classifier-free guidance; 1 is none."""
    per_tile: int
    """How many synthetic tiles were drawn for each real one."""

    def __post_init__(self) -> None:
        check_name("generation.sampler", self.sampler)
        for field, value in (("steps", self.steps), ("per_tile", self.per_tile)):
            if not 1 <= value <= 100_000:
                raise _wrong(f"generation.{field}", f"is {value}, and must be 1 to 100000")
        if not (math.isfinite(self.guidance_scale) and 0 <= self.guidance_scale <= 100):
            raise _wrong("generation.guidance_scale", "must be 0 to 100")


@dataclass(frozen=True)
class Cohort:
    """What the site states about a cohort before any tile is written."""

    site: str
    """The public label that the site chose for itself, 1 to 64 characters."""
    classes: tuple[str, ...]
    """The label names; a tile's label is a place in this tuple. Unique, sorted or not."""
    tile_px: int
    """The side of a tile in pixels."""
    mpp: float
    """Micrometres per pixel of the tiles."""
    models: tuple[ModelIdentity, ...]
    """Every set of weights that had a part in making the tiles."""
    generation: GenerationSettings

    def __post_init__(self) -> None:
        check_name("site", self.site)
        for name in self.classes:
            check_name("classes", name)
        if not 1 <= len(self.classes) <= MAX_CLASSES:
            raise _wrong("classes", f"must be 1 to {MAX_CLASSES} names")
        if len(set(self.classes)) != len(self.classes):
            raise _wrong("classes", "has a name twice")
        if len({skeleton(name) for name in self.classes}) != len(self.classes):
            why = "has two names that look the same"
            raise _wrong("classes", why, Fault.NAME_MISLEADING)
        low, high = TILE_PX_RANGE
        if not low <= self.tile_px <= high:
            raise _wrong("tile_px", f"is {self.tile_px}, and must be {low} to {high}")
        if not (math.isfinite(self.mpp) and 0.05 <= self.mpp <= 20):
            raise _wrong("mpp", "must be 0.05 to 20 µm/px")
        if not self.models:
            raise _wrong("models", "is empty, and a cohort names the weights that made it")
        for model in self.models:
            _check_model(model)

    @property
    def noncommercial(self) -> bool:
        """Whether the terms of any weights forbid commercial use of the tiles."""
        return any(model.noncommercial for model in self.models)


@dataclass(frozen=True)
class Shard:
    """One HDF5 file of a bundle."""

    name: str
    count: int
    """Tiles in it."""


@dataclass(frozen=True)
class Manifest:
    """Everything that `manifest.dsse.json` states: its predicate, and the files it covers."""

    cohort: Cohort
    class_counts: tuple[int, ...]
    """Tiles of each class, in the order of ``cohort.classes``."""
    shards: tuple[Shard, ...]
    audit_sha256: str
    audit_verdict: str
    key_id: str
    software: str
    """The version of pixcell-share that wrote the bundle."""
    files: tuple[tuple[str, str], ...]
    """Name and SHA-256 of every file but the manifest itself, sorted by name."""

    @property
    def count(self) -> int:
        """Tiles in the bundle."""
        return sum(self.class_counts)

    @property
    def counts(self) -> dict[str, int]:
        """Tiles by class name."""
        return dict(zip(self.cohort.classes, self.class_counts, strict=True))


def check_name(field: str, value: str) -> None:
    """Refuse a public name that could hide a path, markup, or characters nobody sees.

    Letters and digits of any script, and ``space . , ( ) + & ' _ -``, in Unicode NFC; no word
    of letters from two scripts that look alike.

    Raises:
        SettingsError: naming ``field``.
    """
    shown = all(c in _PUNCTUATION or unicodedata.category(c)[0] in "LNM" for c in value)
    if not (shown and 1 <= len(value) <= MAX_NAME_LENGTH and value[0].isalnum()):
        raise _wrong(
            field,
            f"{ascii(value)[:MAX_NAME_LENGTH]} must start with a letter or digit, have at most "
            f"{MAX_NAME_LENGTH} characters, and only letters, digits, spaces and . , ( ) + & ' _ -",
            Fault.NAME_NOT_ALLOWED,
        )
    if unicodedata.normalize("NFC", value) != value or value != value.strip():
        why = f"{ascii(value)[:MAX_NAME_LENGTH]} is not in its plain (NFC) spelling"
        raise _wrong(field, why, Fault.NAME_NOT_ALLOWED)
    if is_misleading(value):
        why = f"{ascii(value)[:MAX_NAME_LENGTH]} mixes letters that look alike, or hides some"
        raise _wrong(field, why, Fault.NAME_MISLEADING)


def _check_model(model: ModelIdentity) -> None:
    if model.role not in ("generator", "vae", "encoder", "adapter"):
        raise _wrong("models.role", "must be generator, vae, encoder or adapter")
    for field in ("name", "source", "revision", "licence"):
        value: str = getattr(model, field)
        if not (1 <= len(value) <= 200 and value.isascii() and value.isprintable()):
            raise _wrong(f"models.{field}", "must be 1 to 200 printable ASCII characters")
        if value[0] in "/~\\." or "\\" in value or "/../" in value:
            why = "looks like a path, and no path goes into a bundle"
            raise _wrong(f"models.{field}", why, Fault.PATH_IN_FIELD)
    if len(model.sha256) != 64 or not set(model.sha256) <= set("0123456789abcdef"):
        raise _wrong("models.sha256", "is not a SHA-256 in lower-case hex")


def _wrong(field: str, why: str, fault: Fault = Fault.FIELD_WRONG) -> UnfitError:
    return UnfitError(f"cohort: {field} {why}", "correct the setting and run again", fault)
