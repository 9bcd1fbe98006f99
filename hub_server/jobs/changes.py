"""Settings that are given on the command line, as `pixcell_share.ssl.SslSettings` nests them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pixcell_share.errors import SettingsError


def parse_changes(texts: Sequence[str]) -> dict[str, Any]:
    """``["crops.local_px=98"]`` as ``{"crops": {"local_px": 98}}``.

    Args:
        texts: each a dotted name, ``=``, and a value in JSON; what is no JSON is a text.

    Raises:
        SettingsError: a text has no name or no ``=``.
    """
    changes: dict[str, Any] = {}
    for text in texts:
        name, mark, value = text.partition("=")
        *groups, last = name.split(".")
        if not mark or not all((*groups, last)):
            raise SettingsError(f"--set {text!r} is no setting", "write it as crops.local_px=98")
        inner = changes
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[last] = _value(value)
    return changes


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
