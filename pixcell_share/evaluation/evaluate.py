"""How good an encoder is on a data set: embed it once, run a protocol, keep what is needed."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from pixcell_share import __version__
from pixcell_share.encoders import Encoder
from pixcell_share.errors import SettingsError
from pixcell_share.evaluation.embedded import EmbeddedDataset
from pixcell_share.evaluation.extract import Advance, embed_dataset
from pixcell_share.evaluation.images import ImageDataset
from pixcell_share.evaluation.protocols import run_task
from pixcell_share.evaluation.result import EvaluationResult
from pixcell_share.weights import ModelIdentity

_LIBRARIES = ("numpy", "scipy", "torch")


def evaluate(
    encoder: Encoder | ModelIdentity | None,
    dataset: ImageDataset | EmbeddedDataset,
    *,
    task: str = "knn",
    cache: Path | None = None,
    advance: Advance | None = None,
) -> EvaluationResult:
    """Run one of Thunder's protocols.

    Args:
        encoder: any registered encoder; for a data set of embeddings the identity of the one that
            made them, or None where nobody knows.
        dataset: pictures, or embeddings of them.
        task: one of `TASKS`.
        cache: folder in which embeddings are kept; None: they are computed and forgotten.
        advance: told how many pictures were embedded.

    Raises:
        SettingsError: no such task, or pictures without an encoder.
        DataError: the data set is damaged or too small for the task.
        StorageError: the disk is full, or the cache cannot be written.
    """
    if isinstance(dataset, ImageDataset):
        if not isinstance(encoder, Encoder):
            raise SettingsError(
                f"{dataset.name} holds pictures, and there is no encoder for them",
                "load an encoder, or give a data set of embeddings",
            )
        dataset = embed_dataset(encoder, dataset, cache, advance=advance)
    outcome = run_task(task, dataset)
    return EvaluationResult(
        task=task,
        dataset=dataset.name,
        dataset_digest=dataset.digest,
        classes=dataset.classes,
        sizes=dataset.sizes,
        encoder=encoder.identity if isinstance(encoder, Encoder) else encoder,
        figures=outcome.figures,
        chosen=outcome.chosen,
        versions={"pixcell-share": __version__, **{name: version(name) for name in _LIBRARIES}},
        predicted=outcome.predicted,
    )
