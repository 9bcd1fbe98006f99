"""Answers that stand, kept with their round: the same request is answered once."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixcell_share.federation import Reason, RefusedRoundError, Sealed
from pixcell_share.files import atomic_path, atomic_write_text

_Arrays = dict[str, NDArray[np.generic]]


class Kept:
    """What a site remembers of one step of a round.

    Args:
        folder: of the round.
        step: of the request.
        request: as the hub signed it.
    """

    def __init__(self, folder: Path, step: int, request: Sealed) -> None:
        self._asked = folder / f"request-{step}.json"
        self._said = folder / f"answer-{step}.json"
        self._arrays = folder / f"answer-{step}.npz"
        self._request = request.sha256

    def answer(self) -> tuple[Sealed, _Arrays] | None:
        """What was answered before; None if nothing stands yet.

        Raises:
            RefusedRoundError: the hub asked something else under the same number.
        """
        if not self._asked.exists():
            atomic_write_text(self._asked, json.dumps({"sha256": self._request}) + "\n")
        elif json.loads(self._asked.read_text())["sha256"] != self._request:
            raise RefusedRoundError(Reason.ROUND_CHANGED)
        if not self._said.exists():
            return None
        return _read(json.loads(self._said.read_text())), self._read_arrays()

    def keep(self, sealed: Sealed, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Arrays first: what has an answer is whole."""
        if arrays:
            with atomic_path(self._arrays) as part, part.open("wb") as file:
                np.savez(file, **dict(arrays))  # type: ignore[arg-type]
        atomic_write_text(self._said, json.dumps(_written(sealed)) + "\n")

    def _read_arrays(self) -> _Arrays:
        if not self._arrays.exists():
            return {}
        with np.load(self._arrays, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}


def _written(sealed: Sealed) -> dict[str, str]:
    return {
        "payload": sealed.payload.decode(),
        "signer": sealed.signer,
        "signature": base64.b64encode(sealed.signature).decode(),
    }


def _read(values: dict[str, Any]) -> Sealed:
    signature = base64.b64decode(values["signature"])
    return Sealed(values["payload"].encode(), values["signer"], signature)
