"""The noise of one step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from pixcell_share.prefetch import prefetch
from pixcell_share.training.private.stream import Doubles, SecretStream

_PURPOSE = "noise"


class NoiseSource(Protocol):
    """Where standard normal numbers come from: a `SecretStream`, or one read ahead."""

    def normal(self, count: int, purpose: str, *parts: int) -> Doubles:
        """(count,) numbers for one purpose and step."""
        ...


class _Ahead:
    """The noise of steps in their order."""

    def __init__(self, drawn: Iterator[Doubles], first: int) -> None:
        self._drawn, self._next = drawn, first

    def normal(self, count: int, purpose: str, *parts: int) -> Doubles:
        found = next(self._drawn)
        if (purpose, parts, count) != (_PURPOSE, (self._next,), len(found)):
            raise ValueError(f"noise was drawn ahead for step {self._next}, not {parts}")
        self._next += 1
        return found


@contextmanager
def drawn_ahead(stream: SecretStream, steps: range, count: int) -> Iterator[NoiseSource]:
    """The same noise, drawn in a thread beside the step before.

    For the released size, a million numbers, drawing takes about a tenth of a second.

    Args:
        stream: of the training.
        steps: in the order in which they will be asked for.
        count: numbers of a step.
    """
    drawn = prefetch((stream.normal(count, _PURPOSE, step) for step in steps), 1)
    try:
        yield _Ahead(drawn, steps.start)
    finally:
        drawn.close()  # type: ignore[attr-defined]


def noised_mean(
    total: Mapping[str, Tensor],
    *,
    deviation: float,
    expected: float,
    stream: NoiseSource,
    step: int,
) -> dict[str, Tensor]:
    """The clipped sum over patients with Gaussian noise, over the *expected* number of patients.

    The number who took part is not known to who sees the result; dividing by it would tell it.

    Args:
        total: by parameter, the sum over all patients of the step.
        deviation: of the noise: noise multiplier times clip; 0 for none.
        expected: q times the number of patients.
        stream: of the training; the noise of each step is its own.
        step: over all rounds.

    Returns:
        By parameter, float32 on the parameter's device. Added in float64.
    """
    if not deviation:
        return {name: value / expected for name, value in total.items()}
    sizes = [value.numel() for value in total.values()]
    drawn = torch.from_numpy(stream.normal(sum(sizes), _PURPOSE, step) * deviation)
    noised = {}
    for (name, value), noise in zip(total.items(), torch.split(drawn, sizes), strict=True):
        whole = value.double().cpu() + noise.view(value.shape)
        noised[name] = (whole / expected).float().to(value.device)
    return noised
