"""The result of an evaluation, as it is stored and shown.

The JSON (``EvaluationResult.to_json``) is one object::

    {
      "schema": "pixcell-share.evaluation/1",
      "task": "knn",                              or "linear_probing", "simple_shot"
      "dataset": {"name": "crc", "digest": "<64 hex digits>", "classes": 9,
                  "sizes": {"train": 80000, "val": 20000, "test": 7180}},
      "encoder": {"role": "encoder", "name": "nano", "source": ..., "revision": ..., "licence": ...,
                  "noncommercial": false, "sha256": ...},       null: embeddings of unknown origin
      "figures": {"": {"accuracy": {"value": 0.91, "low": 0.90, "high": 0.92},
                       "balanced_accuracy": {...}, "f1": {...}, "jaccard": {...}}},
      "chosen": {"k": 20},                        what the validation part chose
      "versions": {"pixcell-share": ..., "numpy": ..., "scipy": ..., "torch": ...}
    }

``figures`` has one entry under ``""``; for SimpleShot one under each number of shots. Each interval
is a 95 % percentile bootstrap over tiles (`estimates`). Nothing in it names a path or a time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pixcell_share.errors import DataError
from pixcell_share.evaluation.embedded import Ints
from pixcell_share.evaluation.metrics import METRICS
from pixcell_share.privacy.intervals import Estimate
from pixcell_share.weights import ModelIdentity

SCHEMA = "pixcell-share.evaluation/1"


@dataclass(frozen=True)
class EvaluationResult:
    """What one encoder reached on one data set in one task."""

    task: str
    dataset: str
    """Its name."""
    dataset_digest: str
    """SHA-256: see `ImageDataset.digest` and `EmbeddedDataset.digest`."""
    classes: int
    sizes: Mapping[str, int]
    """Tiles of each part."""
    encoder: ModelIdentity | None
    """None where embeddings were given and nobody said whose they are."""
    figures: Mapping[str, Mapping[str, Estimate]]
    """For each setting (``""``, or the number of shots) each of the `METRICS`."""
    chosen: Mapping[str, Any]
    """What the validation part chose, such as k."""
    versions: Mapping[str, str]
    predicted: Mapping[str, Ints] = field(default_factory=dict, repr=False, compare=False)
    """(M,) class of each test tile for each setting; not part of the JSON."""

    @property
    def balanced_accuracy(self) -> Estimate:
        """The figure that a leaderboard shows; of SimpleShot with the most shots."""
        return self.figures[max(self.figures, key=lambda name: int(name or 0))]["balanced_accuracy"]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: see the module."""
        return {
            "schema": SCHEMA,
            "task": self.task,
            "dataset": {
                "name": self.dataset,
                "digest": self.dataset_digest,
                "classes": self.classes,
                "sizes": dict(self.sizes),
            },
            "encoder": asdict(self.encoder) if self.encoder else None,
            "figures": {
                setting: {name: asdict(found) for name, found in figures.items()}
                for setting, figures in self.figures.items()
            },
            "chosen": dict(self.chosen),
            "versions": dict(self.versions),
        }

    def to_json(self) -> str:
        """One object, indented, with a line end."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EvaluationResult:
        """The result that `to_dict` described.

        Raises:
            DataError: another schema, or a field is missing or of a wrong type.
        """
        try:
            if values["schema"] != SCHEMA:
                raise ValueError(f"schema {values['schema']!r}")
            if not values["figures"]:
                raise ValueError("no figures")
            dataset, encoder = values["dataset"], values["encoder"]
            return cls(
                task=values["task"],
                dataset=dataset["name"],
                dataset_digest=dataset["digest"],
                classes=int(dataset["classes"]),
                sizes={name: int(size) for name, size in dataset["sizes"].items()},
                encoder=ModelIdentity(**encoder) if encoder else None,
                figures={name: _figures(own) for name, own in values["figures"].items()},
                chosen=dict(values["chosen"]),
                versions=dict(values["versions"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"this is no result of an evaluation: {error!r}", "evaluate the encoder again"
            ) from error

    @classmethod
    def from_json(cls, text: str) -> EvaluationResult:
        """The result that `to_json` wrote.

        Raises:
            DataError: as of `from_dict`, or no JSON.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise DataError(f"this is no JSON: {error}", "evaluate the encoder again") from error
        return cls.from_dict(values)


def _figures(values: Mapping[str, Any]) -> dict[str, Estimate]:
    return {name: Estimate(**{k: float(v) for k, v in values[name].items()}) for name in METRICS}
