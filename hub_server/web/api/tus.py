"""The header fields of tus 1.0."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated

from fastapi import Depends, Header, Request, Response
from fastapi.responses import JSONResponse

from pixcell_share.errors import UploadError
from pixcell_share.wire import Refusal

TUS_VERSION = "1.0.0"
EXTENSIONS = "checksum,expiration,termination"
ALGORITHMS = ("sha256", "sha1")
_OFFSET = re.compile(r"[0-9]{1,18}", re.ASCII)


class WrongTusVersionError(Exception):
    """The client speaks another version of tus."""


def check_tus(tus_resumable: Annotated[str, Header()] = "") -> None:
    """A dependency: the client says that it speaks tus 1.0.

    Raises:
        WrongTusVersionError: it does not.
    """
    if tus_resumable != TUS_VERSION:
        raise WrongTusVersionError


UsesTus = Annotated[None, Depends(check_tus)]


async def wrong_version(_request: Request, _error: Exception) -> Response:
    """An exception handler: 412 with the versions that are spoken, as tus asks for."""
    error = {
        "code": Refusal.MALFORMED,
        "cause": "Tus-Resumable is not 1.0.0",
        "remedy": "send it with every request",
    }
    return JSONResponse({"error": error}, 412, {"Tus-Version": TUS_VERSION})


def parse_offset(value: str) -> int:
    """The field ``Upload-Offset``.

    Raises:
        UploadError: it is no number.
    """
    if not _OFFSET.fullmatch(value):
        raise UploadError("Upload-Offset is not a number", "send it", Refusal.MALFORMED)
    return int(value)


def parse_checksum(value: str | None) -> list[tuple[str, bytes]]:
    """The field ``Upload-Checksum``: the name of an algorithm and a digest, if there is one.

    Raises:
        UploadError: another algorithm, or no digest.
    """
    if value is None:
        return []
    algorithm, _, text = value.partition(" ")
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if algorithm not in ALGORITHMS or not digest:
        raise UploadError(
            "Upload-Checksum is not an algorithm and a digest",
            f"use one of {', '.join(ALGORITHMS)}",
            Refusal.MALFORMED,
        )
    return [(algorithm, digest)]
