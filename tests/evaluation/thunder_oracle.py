"""thunder-bench itself, to compare with: ``pip install --no-deps thunder-bench==0.2.2``.

Most of what it needs is here anyway. What is missing of the rest logs, plots or downloads; none of
that is called, so empty modules stand in for it, and nothing else has to be installed.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

VERSION = "0.2.2"
COMMAND = f"pip install --no-deps thunder-bench=={VERSION}"
_NOT_CALLED = (
    "wandb", "wilds", "matplotlib", "matplotlib.pyplot", "einops", "hydra", "omegaconf",
)  # fmt: skip


class _StandIn(types.ModuleType):
    """Takes part in imports and annotations; calling what is in it does nothing."""

    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda *args, **kwargs: None})


def _missing(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is None
    except (ModuleNotFoundError, ValueError, AttributeError):
        return True


@contextlib.contextmanager
def _stand_ins() -> Iterator[None]:
    names = [name for name in _NOT_CALLED if name not in sys.modules and _missing(name)]
    sys.modules.update({name: _StandIn(name) for name in names})
    try:
        yield
    finally:
        for name in names:
            sys.modules.pop(name, None)


def _import_what_looks_for_optional_packages() -> None:
    """It must not find the stand-ins."""
    from transformers import AutoImageProcessor, AutoModel  # noqa: F401


def thunder(module: str) -> Any:
    """A module of thunder, or a skip with the command that installs it."""
    if importlib.util.find_spec("thunder") is None:
        pytest.skip(f"thunder-bench is not installed; {COMMAND}")
    _import_what_looks_for_optional_packages()
    with _stand_ins():
        return importlib.import_module(f"thunder.{module}")
