"""Signed documents and arrays in the records of Flower's Message API, and back.

Flower carries each array, and each of its pieces, as an object with a request of its own: the 48
matrices of nano's LoRA cost half as much again as they hold. So all arrays of a message travel as
one, the bytes of a safetensors file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from pixcell_share.federation.sealed import Sealed, SealError

Arrays = Mapping[str, NDArray[np.generic]]
"""Named arrays, such as the tensors of a LoRA."""

_SEALED, _ARRAYS, _FILE = "sealed", "arrays", "safetensors"
_KINDS = "fiu"
"""Numbers."""


def pack(sealed: Sealed, arrays: Arrays | None = None) -> RecordDict:
    """A document, and arrays beside it, as the content of a message."""
    fields = ConfigRecord()
    fields["payload"] = sealed.payload
    fields["signer"] = sealed.signer
    fields["signature"] = sealed.signature
    content = RecordDict({_SEALED: fields})
    if arrays:
        whole = save({name: np.asarray(array, order="C") for name, array in arrays.items()})
        file = Array(dtype="uint8", shape=(len(whole),), stype=_FILE, data=whole)
        content[_ARRAYS] = ArrayRecord({_FILE: file})
    return content


def unpack(content: RecordDict) -> tuple[Sealed, dict[str, NDArray[np.generic]]]:
    """The document, unopened, and the arrays beside it.

    Raises:
        SealError: the content is of another form, or an array holds other things than numbers.
    """
    try:
        fields = content.config_records[_SEALED]
        sealed = Sealed(
            _bytes(fields["payload"]), _text(fields["signer"]), _bytes(fields["signature"])
        )
        record = content.array_records.get(_ARRAYS)
        arrays = {} if record is None else _numbers(record[_FILE])
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise SealError("not a message of this federation") from error
    return sealed, arrays


def arrays_digest(arrays: Arrays) -> str:
    """SHA-256 over names, kinds, shapes and bytes in the order of names; empty for no arrays."""
    if not arrays:
        return ""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _bytes(value: object) -> bytes:
    if type(value) is not bytes:
        raise TypeError("no bytes")
    return value


def _text(value: object) -> str:
    if type(value) is not str:
        raise TypeError("no text")
    return value


def _numbers(file: Array) -> dict[str, NDArray[np.generic]]:
    """What the file holds: it is read as safetensors, whatever it is said to be."""
    found: dict[str, NDArray[np.generic]] = load(file.data)
    if any(array.dtype.kind not in _KINDS for array in found.values()):
        raise TypeError("an array of other things than numbers")
    return found
