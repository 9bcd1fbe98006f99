"""How alike two sets of tiles are, as an encoder sees them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from pixcell_share.errors import DataError
from pixcell_share.evaluation.embedded import Singles
from pixcell_share.evaluation.extract import Embedder, embed_pictures
from pixcell_share.evaluation.frechet import frechet_distance
from pixcell_share.evaluation.images import PictureFiles, Pictures
from pixcell_share.privacy.intervals import Estimate
from pixcell_share.privacy.neighbours import nearest
from pixcell_share.slides.tile_set import PICTURE_SUFFIXES
from pixcell_share.weights import ModelIdentity

_RESAMPLES = 2000


@dataclass(frozen=True)
class Comparison:
    """Two sets of tiles in one encoder."""

    encoder: ModelIdentity
    sizes: tuple[int, int]
    """Tiles of the first and of the second set."""
    frechet: float
    """Fréchet distance of the two; with Inception this is the FID."""
    frechet_within: float
    """The same between two random halves of the first set. Few tiles make both figures too large,
    and this one the more, as its samples are smaller: a distance below it says nothing."""
    nearest_cosine: float
    """Mean over the tiles of the second set of the cosine with the nearest of the first."""
    paired_cosine: Estimate | None
    """Mean cosine of tile i of the first set with tile i of the second, as PixCell compares
    real tiles with those made from them; 95 % interval by bootstrap over pairs. None: no pairs."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def compare(
    first: Pictures, second: Pictures, encoder: Embedder, *, paired: bool = False, seed: int = 0
) -> Comparison:
    """Embed both sets and compare them.

    Args:
        first: the reference, such as real tiles; 4 at least.
        second: the tiles in question; 2 at least.
        encoder: any registered one, or `InceptionEncoder`.
        paired: whether tile i of both belong together.
        seed: of the halves and of the bootstrap.

    Raises:
        DataError: too few tiles, or pairs of sets of different sizes.
    """
    if len(first) < 4 or len(second) < 2:
        raise DataError(
            f"{len(first)} and {len(second)} tiles cannot be compared",
            "give four tiles at least of the first set and two of the second",
        )
    if paired and len(first) != len(second):
        raise DataError(
            f"{len(first)} and {len(second)} tiles are not pairs", "leave the pairs out"
        )
    one, two = (embed_pictures(encoder, each) for each in (first, second))
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(one))
    half = len(one) // 2
    return Comparison(
        encoder=encoder.identity,
        sizes=(len(one), len(two)),
        frechet=frechet_distance(one, two),
        frechet_within=frechet_distance(one[order[:half]], one[order[half:]]),
        nearest_cosine=float(1 - nearest(two, one, 1).distances.mean(dtype=np.float64)),
        paired_cosine=_mean_of(cosines(one, two), rng) if paired else None,
    )


def cosines(first: Singles, second: Singles) -> NDArray[np.float64]:
    """(N,) cosine of each row of the first (N, D) with the same row of the second."""
    one, two = (rows.astype(np.float64) for rows in (first, second))
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    found: NDArray[np.float64] = (one * two).sum(axis=1) / lengths
    return found


def open_pictures(folder: Path) -> PictureFiles:
    """All pictures under a folder, sorted by name.

    Raises:
        DataError: there is none.
    """
    files = (path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    names = tuple(sorted(path.relative_to(folder).as_posix() for path in files))
    if not names:
        raise DataError(f"{folder} holds no picture", "give a folder of PNG, JPEG or TIFF files")
    return PictureFiles(folder, names)


def are_pairs(first: PictureFiles, second: PictureFiles) -> bool:
    """Whether the files of both folders have the same names, up to their endings."""
    return list(_stems(first)) == list(_stems(second))


def _stems(pictures: PictureFiles) -> Iterator[str]:
    return (str(Path(file).with_suffix("")) for file in pictures.files)


def _mean_of(values: NDArray[np.float64], rng: np.random.Generator) -> Estimate:
    found = bootstrap((values,), np.mean, n_resamples=_RESAMPLES, method="percentile", rng=rng)
    low, high = found.confidence_interval
    return Estimate(float(values.mean()), float(low), float(high))
