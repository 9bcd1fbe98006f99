"""Signed documents and arrays in the records of Flower's Message API, and back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from pixcell_share.federation.sealed import Sealed, SealError

Arrays = Mapping[str, NDArray[np.generic]]
"""Named arrays, such as the tensors of a LoRA."""

_SEALED, _ARRAYS = "sealed", "arrays"
_KINDS = "fiu"
"""Numbers: an object array would be unpickled."""


def pack(sealed: Sealed, arrays: Arrays | None = None) -> RecordDict:
    """A document, and arrays beside it, as the content of a message."""
    fields = ConfigRecord()
    fields["payload"] = sealed.payload
    fields["signer"] = sealed.signer
    fields["signature"] = sealed.signature
    content = RecordDict({_SEALED: fields})
    if arrays:
        content[_ARRAYS] = ArrayRecord({name: Array(array) for name, array in arrays.items()})
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
        record = content.array_records.get(_ARRAYS, ArrayRecord())
        arrays = {name: _numbers(array) for name, array in record.items()}
    except (KeyError, TypeError, ValueError) as error:
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


def _numbers(array: Array) -> NDArray[np.generic]:
    if array.stype != "numpy.ndarray" or np.dtype(array.dtype).kind not in _KINDS:
        raise TypeError("no array of numbers")
    found: NDArray[np.generic] = array.numpy()
    if found.dtype.kind not in _KINDS:
        raise TypeError("no array of numbers")
    return found
