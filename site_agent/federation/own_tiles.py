"""The site's own labelled tiles in the encoder that a hub sends, for figures and probes.

Tiles are found and read as in the main job. Weights come as arrays of numbers, for an architecture
that this package has: no code and no pickle. Embeddings stay in the round's folder; they are
patient data.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pixcell_share.bundles import shuffled_order
from pixcell_share.federation import Outcome, Reason, RefusedRoundError
from pixcell_share.federation.encoder_asks import ENCODER, OwnTilesAsk
from pixcell_share.federation.records import arrays_digest
from pixcell_share.files import atomic_path
from site_agent.federation.desk import Desk
from site_agent.federation.own_data import data_settings

if TYPE_CHECKING:
    from pixcell_share.evaluation import SiteTiles
    from pixcell_share.ssl.vit import VisionTransformer
    from site_agent.steps.real_tiles import RealTiles

Arrays = Mapping[str, NDArray[np.generic]]
_BATCH = 32
_CHOICE, _DIVISION = "own tiles v1", "own tiles division v1"


def permit_own_tiles(ask: OwnTilesAsk, desk: Desk) -> None:
    """Refuse what cannot be, before a slide is opened.

    Raises:
        RefusedRoundError: an unknown architecture, or no tiles are set for federation.
    """
    from pixcell_share.ssl import ARCHITECTURES

    if ask.architecture not in ARCHITECTURES:
        raise RefusedRoundError(Reason.MODEL)
    if ask.input_px % ARCHITECTURES[ask.architecture].patch:
        raise RefusedRoundError(Reason.MALFORMED)
    if not (desk.policy.slides or desk.policy.tiles):
        raise RefusedRoundError(Reason.NO_DATA)


def own_tiles(ask: OwnTilesAsk, desk: Desk, arrays: Arrays) -> SiteTiles:
    """Labels, patients and embeddings of some tiles of each patient.

    Args:
        ask: which encoder, and how many tiles.
        desk: the site.
        arrays: what came along; the encoder's weights, unless the round has its embeddings.

    Raises:
        RefusedRoundError: no weights, weights that do not fit, or too few labelled patients.
    """
    from pixcell_share.evaluation import SiteTiles

    kept = desk.folder / f"own-{ask.encoder_sha256[:32]}.npz"
    if not kept.is_file():
        _embed_own(ask, desk, arrays, kept)
    with np.load(kept) as found:
        labels: Sequence[str] = found["labels"].tolist()
        classes = ask.labels or tuple(sorted(set(labels)))
        rows = np.array([label in classes for label in labels])
        if {label for label in labels if label in classes} != set(classes):
            raise RefusedRoundError(Reason.TOO_FEW)
        numbers = np.array([classes.index(label) for label in labels if label in classes], np.int64)
        return SiteTiles(found["embeddings"][rows], numbers, found["patients"][rows], len(classes))


def division_seed(desk: Desk) -> int:
    """Of the division into parts: the site's own, and the same in every round."""
    return int.from_bytes(desk.key.derive(_DIVISION)[:6], "little")


def _embed_own(ask: OwnTilesAsk, desk: Desk, arrays: Arrays, kept: Path) -> None:
    weights = {n.removeprefix(ENCODER): a for n, a in arrays.items() if n.startswith(ENCODER)}
    if not weights:
        raise RefusedRoundError(Reason.WEIGHTS)
    if arrays_digest(weights) != ask.encoder_sha256:
        raise RefusedRoundError(Reason.MALFORMED)
    model = _filled(ask.architecture, weights)
    with _tiles(desk) as tiles:
        rows, labels, patients = _choice(ask, desk, tiles)
        embeddings = _embedded(model, tiles, rows, ask.input_px, desk)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(kept) as part, part.open("wb") as stream:
        np.savez(
            stream, embeddings=embeddings, labels=np.array(labels), patients=np.array(patients)
        )


def _filled(architecture: str, weights: Arrays) -> VisionTransformer:
    """The encoder with the weights that came.

    Raises:
        RefusedRoundError: they are another architecture's, or not finite.
    """
    import torch

    from pixcell_share.ssl import ARCHITECTURES
    from pixcell_share.ssl.vit import VisionTransformer

    with torch.device("meta"):
        model = VisionTransformer(ARCHITECTURES[architecture])
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if shapes != {name: array.shape for name, array in weights.items()}:
        raise RefusedRoundError(Reason.MALFORMED)
    if not all(a.dtype == np.float32 and np.isfinite(a).all() for a in weights.values()):
        raise RefusedRoundError(Reason.MALFORMED)
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in weights.items()}
    model.load_state_dict(tensors, assign=True)
    return model.eval().requires_grad_(False)


def _tiles(desk: Desk) -> Any:
    """All tiles of the site, found as in the main job; closes the slides at the end."""
    from contextlib import closing

    from site_agent.clock import Clock
    from site_agent.inputs import find_records
    from site_agent.run_folder import RunFolder
    from site_agent.steps.real_tiles import RealTiles
    from site_agent.steps.tiling import tile_slides

    settings = data_settings(desk, desk.places.folder / "own-tiles")
    run = RunFolder(settings)
    run.root.mkdir(parents=True, exist_ok=True)
    records = find_records(settings)
    states = tile_slides(run, records, desk.view, Clock())
    return closing(RealTiles(run, records, states))


def _choice(
    ask: OwnTilesAsk, desk: Desk, tiles: RealTiles
) -> tuple[list[int], list[str], list[int]]:
    """Numbers of some tiles of each labelled patient, their labels, and the patients' numbers."""
    from site_agent.inputs import patient_of

    own: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for number, (record, state) in enumerate(tiles.used):
        if record.label:
            start = tiles.starts[number]
            own[patient_of(record), record.label] += range(start, start + state.tiles)
    names = sorted({patient for patient, _ in own})
    if len(names) < desk.policy.patients:
        raise RefusedRoundError(Reason.TOO_FEW)
    rows: list[int] = []
    labels: list[str] = []
    patients: list[int] = []
    for (patient, label), numbers in sorted(own.items()):
        order = shuffled_order(desk.key.derive(f"{_CHOICE}/{patient}/{label}"), len(numbers))
        chosen = sorted(numbers[place] for place in order[: ask.tiles_per_patient])
        rows += chosen
        labels += [label] * len(chosen)
        patients += [names.index(patient)] * len(chosen)
    return rows, labels, patients


def _embedded(
    model: VisionTransformer, tiles: RealTiles, rows: list[int], input_px: int, desk: Desk
) -> NDArray[np.float32]:
    import torch

    from pixcell_share.encoders.transform import TileTransform
    from pixcell_share.pixcell.device import resolve_device

    device = resolve_device(desk.policy.device)
    transform, model = TileTransform(input_px), model.to(device)
    parts = []
    with desk.view.stage("embed", len(rows), "tiles") as advance, torch.inference_mode():
        for batch in _batches(rows):
            images = np.stack([tiles.image(row) for row in batch])
            parts.append(model(transform(images, device)).float().cpu().numpy())
            advance(len(batch))
    embeddings: NDArray[np.float32] = np.concatenate(parts)
    if not np.isfinite(embeddings).all() or not embeddings.any(axis=1).all():
        raise RefusedRoundError(Reason.WEIGHTS, Outcome.FAILED)
    return embeddings


def _batches(rows: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(rows), _BATCH):
        yield rows[start : start + _BATCH]
