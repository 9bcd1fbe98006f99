"""Does anything in a bundle, other than the tiles, identify a slide, a patient, a place or a time?

The very bytes that are to be released are looked at: words and dates (`bundles.forbidden`), chunks
of the preview, structures of the shards, file names; the *order* of the tiles, which must not tell
which belong together; and their *counts*, since a class of one patient names that patient's tiles.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixcell_share.bundles import AuditTest, Cohort
from pixcell_share.bundles._codec import MANIFEST_NAME, PREVIEW_NAME, SIDE_FILES
from pixcell_share.bundles._own_shard import inspect_shard_structure, read_labels
from pixcell_share.bundles._preview import check_png
from pixcell_share.bundles._vocabulary import public_texts
from pixcell_share.bundles.forbidden import Finding, Search, Secrets
from pixcell_share.errors import FormatError

__all__ = ["Finding", "Secrets", "attributes_test", "inspect_attributes"]

ORDER_CHANCE = 0.001
"""One honestly shuffled cohort in a thousand is refused for its order."""
_SHUFFLES = 4999
_SHARD_NAME = re.compile(r"shard-\d{5}\.h5")


def inspect_attributes(
    folder: Path,
    secrets: Secrets,
    *,
    cohort: Cohort,
    tile_sources: NDArray[np.int64] | None = None,
    least_patients: int = 1,
) -> tuple[Finding, ...]:
    """Everything in ``folder`` that tells more than it should.

    Args:
        folder: a bundle, or the part of it that is written so far.
        secrets: names of slides, patients, paths, hosts and users to look for.
        cohort: what the site states; its label, classes and models are public.
        tile_sources: (N,) or (N, k) number of the patient, or of the k patients, behind each tile
            in the order of the bundle, from 0; None where no tile has any.
        least_patients: of how many patients the tiles of a class must be at least.

    Raises:
        ValueError: ``tile_sources`` is not as long as the bundle.
    """
    search = Search(secrets, public_texts(cohort))
    found: list[Finding] = []
    shards: list[Path] = []
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.is_symlink() or not _is_known(path.name):
            found.append(Finding("file_name", path.name, "a name that no bundle has"))
        if path.is_file():
            found += search.in_file(path)
            found += _in_format(path, cohort)
            shards += [path] if _SHARD_NAME.fullmatch(path.name) else []
    if tile_sources is not None:
        labels = np.concatenate([read_labels(path) for path in shards])
        found += _in_order_and_counts(tile_sources, labels, cohort, least_patients)
    return tuple(found)


def attributes_test(findings: Sequence[Finding], files: int) -> AuditTest:
    """The findings as a test of the audit: their number, and nothing of what they are.

    Args:
        findings: from `inspect_attributes`.
        files: how many files were looked at.
    """
    figures = {"files": files, "findings": len(findings)}
    return AuditTest("attributes", not findings, figures, {"findings": 0})


def order_p_value(sources: NDArray[np.int64], seed: int = 0) -> float:
    """How likely a shuffled order has as many neighbours of one patient as this one.

    A permutation test: the share of orders, the given one included, with at least as many pairs of
    neighbours that share a patient (Phipson and Smyth, "Permutation p-values should never be
    zero", 2010). It stops once the result must exceed `ORDER_CHANCE` (Besag and Clifford,
    "Sequential Monte Carlo p-values", 1991), so an honest order costs a few shuffles.

    Args:
        sources: (N, k) patients behind each tile.
        seed: of the shuffles.
    """
    if len(sources) < 3:
        return 1.0
    observed = _neighbours(sources)
    enough = int(ORDER_CHANCE * (_SHUFFLES + 1))
    generator = np.random.default_rng(seed)
    as_many = 0
    for done in range(1, _SHUFFLES + 1):
        as_many += _neighbours(generator.permutation(sources)) >= observed
        if as_many >= enough:
            return (as_many + 1) / (done + 1)
    return (as_many + 1) / (_SHUFFLES + 1)


def _neighbours(sources: NDArray[np.int64]) -> int:
    """Pairs of neighbours with a patient in common."""
    left, right = sources[:-1], sources[1:]
    k = sources.shape[1]
    same = np.zeros(len(left), np.bool_)
    for i in range(k):
        for j in range(k):
            same |= left[:, i] == right[:, j]
    return int(same.sum())


def _is_known(name: str) -> bool:
    return name in (*SIDE_FILES, MANIFEST_NAME) or _SHARD_NAME.fullmatch(name) is not None


def _in_format(path: Path, cohort: Cohort) -> Iterator[Finding]:
    """What the format of a file can hide."""
    if path.name == PREVIEW_NAME:
        try:
            check_png(path.read_bytes(), path.name)
        except FormatError as error:
            yield Finding("png_chunk", path.name, error.cause.removeprefix(f"{path.name} "))
    elif path.suffix == ".h5":
        try:
            yield from inspect_shard_structure(path, cohort)
        except (OSError, KeyError) as error:
            yield Finding("hdf5_bytes", path.name, "what is not a shard", str(error))


def _in_order_and_counts(
    tile_sources: NDArray[np.int64], labels: NDArray[np.int64], cohort: Cohort, least: int
) -> Iterator[Finding]:
    if len(tile_sources) != len(labels):
        raise ValueError(f"{len(tile_sources)} sources for {len(labels)} tiles")
    sources = tile_sources.reshape(len(tile_sources), -1)
    if (chance := order_p_value(sources)) < ORDER_CHANCE:
        what = f"tiles of one patient beside each other more often than by chance (p = {chance:g})"
        yield Finding("order", "", what)
    for number, name in enumerate(cohort.classes):
        patients = len(np.unique(sources[labels == number]))
        if 0 < patients < least:
            what = f"a class whose tiles are of fewer than {least} patients"
            yield Finding("count", "", what, f"{name}: {patients}")
