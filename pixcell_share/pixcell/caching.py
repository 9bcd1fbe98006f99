"""Block caching: extrapolate the transformer's blocks in some steps. It changes the result.

TaylorSeer (arXiv:2503.06923) as diffusers has it, of order 2, over all blocks at once: a step that
is not computed takes the output of the last block from a Taylor series over the steps before. It
was chosen over diffusers' other caches because which steps are computed depends on nothing but
their number: a tile does not depend on the tiles beside it, and a GPU is never waited for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import TaylorSeerCacheConfig

_ORDER = 2
_FULL_FIRST = 3
"""Steps computed in full at the start, where the latents change most: one for each derivative."""


def enable_block_cache(stack: Any, blocks: int, interval: int) -> None:
    """Compute the blocks in the first three steps, then in every ``interval``-th.

    Args:
        stack: a diffusers ``CacheMixin`` that holds ``transformer_blocks``.
        blocks: how many.
        interval: at least 2.
    """
    last = blocks - 1
    stack.enable_cache(
        TaylorSeerCacheConfig(
            cache_interval=interval,
            disable_cache_before_step=_FULL_FIRST,
            max_order=_ORDER,
            taylor_factors_dtype=torch.float32,
            cache_identifiers=[rf"transformer_blocks\.{last}"],
            skip_predict_identifiers=[rf"transformer_blocks\.{i}" for i in range(last)],
        )
    )


@contextmanager
def cache_context(stack: Any, *of: object) -> Iterator[None]:
    """Keep what is cached apart for each window of a large image and each kind of step."""
    if not stack.is_cache_enabled:
        yield
        return
    with stack.cache_context(repr(of)):
        yield
