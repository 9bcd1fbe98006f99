"""How close two sets of tiles are in an encoder: cohorts of the hub, or folders of pictures."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hub_server.jobs.cohort_pictures import CohortPictures
from hub_server.jobs.evaluating import open_encoder
from hub_server.jobs.hub import Hub
from hub_server.jobs.sources import accepted_cohort
from pixcell_share.errors import SettingsError
from pixcell_share.evaluation import (
    Comparison,
    InceptionEncoder,
    PictureFiles,
    Pictures,
    are_pairs,
    compare,
    open_pictures,
)
from pixcell_share.evaluation.extract import Embedder

_INCEPTION = "inception:"


def compare_tiles(
    hub: Hub,
    first: str,
    second: str,
    *,
    encoder: str,
    weights: str | None = None,
    device: str = "auto",
) -> Comparison:
    """Compare the tiles of two cohorts or folders; files of equal names are taken for pairs.

    Args:
        hub: where.
        first: the reference: a folder, or a cohort as `accepted_cohort` takes it.
        second: the tiles in question, likewise.
        encoder: as of `open_encoder`, or ``inception:FILE`` for the FID, FILE being clean-fid's.
        weights: of a registered encoder.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        SettingsError: there is no such encoder.
        NotFoundError: there is no such cohort or folder.
        DataError: too few tiles, or damaged ones.
    """
    one, two = (_pictures(hub, words) for words in (first, second))
    files = isinstance(one, PictureFiles) and isinstance(two, PictureFiles)
    paired = files and are_pairs(one, two)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory(prefix="pixcell-encoder-") as work:
        return compare(
            one, two, _embedder(hub, encoder, Path(work), weights, device), paired=paired
        )


def _embedder(hub: Hub, name: str, work: Path, weights: str | None, device: str) -> Embedder:
    if not name.startswith(_INCEPTION):
        return open_encoder(hub, name, work, weights=weights, device=device)
    path = Path(name.removeprefix(_INCEPTION)).expanduser()
    if not path.is_file():
        raise SettingsError(f"there is no file {path}", "give clean-fid's Inception weights")
    return InceptionEncoder(path)


def _pictures(hub: Hub, words: str) -> Pictures:
    folder = Path(words).expanduser()
    if folder.is_dir():
        return open_pictures(folder)
    with hub.registry.reading() as session:
        cohort = accepted_cohort(session, words)
    assert cohort.canonical is not None
    return CohortPictures(hub.storage, cohort.canonical)
