"""Read JSON that somebody else wrote: small, shallow, and meaning one thing only."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from pixcell_share.bundles.faults import Fault
from pixcell_share.errors import FormatError

MAX_JSON_BYTES = 1 << 20
"""More than ten times the manifest of a cohort with a thousand shards."""
MAX_DEPTH = 16

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


def parse_json(data: bytes, name: str) -> Any:
    """Parse ``data`` strictly: UTF-8, no repeated key, no NaN or infinity, no deep nesting.

    Args:
        data: at most `MAX_JSON_BYTES`.
        name: the file, for errors.

    Raises:
        FormatError: it is anything else.
    """
    if len(data) > MAX_JSON_BYTES:
        raise _bad(name, f"is larger than {MAX_JSON_BYTES} bytes", Fault.FILE_TOO_LARGE)
    if _depth(data) > MAX_DEPTH:
        raise _bad(name, f"is nested more than {MAX_DEPTH} deep", Fault.JSON_TOO_DEEP)
    try:
        return json.loads(
            data.decode("utf-8", errors="strict"),
            object_pairs_hook=_unique,
            parse_constant=_refuse,
            parse_float=_finite,
            parse_int=_bounded,
        )
    except ValueError as error:
        raise _bad(name, f"is not strict JSON: {_plain(error)}", Fault.JSON_NOT_STRICT) from error


def _depth(data: bytes) -> int:
    """How deep the brackets outside strings go, found without recursion."""
    depth = deepest = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", data)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is repeated in one object")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    return value


def _bounded(text: str) -> int:
    if len(text) > 20:
        raise ValueError("a number has too many digits")
    return int(text)


def _plain(error: ValueError) -> str:
    """The reason without the content: what a stranger wrote is not echoed."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos}"
    if isinstance(error, UnicodeDecodeError):
        return "the text is not UTF-8"
    return str(error)


def _bad(name: str, what: str, fault: Fault) -> FormatError:
    return FormatError(f"{name} {what}", "ask the site to write and send the bundle again", fault)
