"""``--compile``: the transformer's block through `torch.compile`, once for all blocks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from pixcell_share.pixcell.blocks import run_block

_log = logging.getLogger(__name__)


class CompiledBlock:
    """`run_block`, compiled when first called; as it is where compiling fails.

    Args:
        compiler: makes a faster function of a function; another one only for tests.
    """

    def __init__(self, compiler: Callable[..., Any] = torch.compile) -> None:
        self._compiler = compiler
        self._compiled: Callable[..., Tensor] | None = None
        self._failed = False

    def __call__(self, *arguments: Any) -> Tensor:
        """The same result as `run_block`, up to rounding."""
        if self._failed:
            return run_block(*arguments)
        try:
            # Static shapes: only whole batches come here, and they give the fastest code.
            self._compiled = self._compiled or self._compiler(run_block, dynamic=False)
            return self._compiled(*arguments)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            self._failed = True
            first = str(error).strip().partition("\n")[0]
            _log.warning(
                "torch.compile does not work here, so the tiles are made without it, at the usual "
                "speed (%s: %s)", type(error).__name__, first,
            )  # fmt: skip
            return run_block(*arguments)


@cache
def compiled_block() -> CompiledBlock:
    """The one compiled block of this process."""
    return CompiledBlock()
