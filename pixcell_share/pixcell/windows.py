"""Overlapping windows over a latent that is larger than the model's image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pixcell_share.errors import SettingsError


@dataclass(frozen=True)
class Windows:
    """Squares that cover a rectangle, row by row; neighbours overlap."""

    side: int
    """Latent pixels along one side of a window: the model's ``sample_size``."""
    tops: tuple[int, ...]
    """First latent row of each row of windows."""
    lefts: tuple[int, ...]
    """First latent column of each column of windows."""

    @classmethod
    def over(cls, height: int, width: int, side: int, stride: int) -> Windows:
        """Windows every ``stride`` latent pixels; the last of a row ends at the edge.

        Raises:
            SettingsError: the rectangle is smaller than a window, or windows would leave gaps.
        """
        if min(height, width) < side:
            raise SettingsError(
                f"a region of {height} x {width} latent pixels is smaller than the {side} x {side} "
                "of the model's image",
                "ask for a larger region, or take a model of smaller images",
            )
        if not 1 <= stride <= side:
            raise SettingsError(
                f"a stride of {stride} latent pixels leaves gaps between windows of {side}",
                f"use 1 to {side}; half a window, {side // 2}, is usual",
            )
        return cls(side, _starts(height, side, stride), _starts(width, side, stride))

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Top and left of each window, row by row."""
        return ((top, left) for top in self.tops for left in self.lefts)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of what they cover, in latent pixels."""
        return self.tops[-1] + self.side, self.lefts[-1] + self.side

    def cut(self, field: Tensor, part: slice) -> Tensor:
        """The windows ``part`` of a field ``(C, H, W)``: ``(n, C, side, side)``."""
        places = list(self)[part]
        return torch.stack([field[:, y : y + self.side, x : x + self.side] for y, x in places])

    def add(self, field: Tensor, values: Tensor, part: slice) -> None:
        """Add ``values (n, C, side, side)`` to a field at the windows ``part``, in order."""
        for (y, x), value in zip(list(self)[part], values, strict=True):
            field[:, y : y + self.side, x : x + self.side] += value

    def weights(self, bell: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of all windows' weights, as two factors: of the rows ``(H,)`` and columns ``(W,)``.

        A window weighs its pixels by the outer product of ``bell`` with itself; since windows
        form a grid, the sum over them is an outer product too.

        Args:
            bell: ``(side * f,)``, for a field of ``f`` values a latent pixel.
        """
        scale = len(bell) // self.side
        sums = []
        for starts in (self.tops, self.lefts):
            total = torch.zeros((starts[-1] + self.side) * scale, device=bell.device)
            for start in starts:
                total[start * scale : start * scale + len(bell)] += bell
            sums.append(total)
        return sums[0], sums[1]

    def blocks(self, grid: Tensor, tile: int) -> Tensor:
        """The conditions of each window: the tiles that it covers, row by row.

        Args:
            grid: ``(R, C, D)``, one embedding for each tile of the region.
            tile: latent pixels along one side of a tile.

        Returns:
            ``(n, (side / tile)**2, D)``.

        Raises:
            SettingsError: a window does not begin at a tile.
        """
        wide = self.side // tile
        if any(start % tile for start in (*self.tops, *self.lefts)):
            raise SettingsError(
                f"windows at {self.tops} do not begin at tiles of {tile} latent pixels",
                f"use a stride that is a multiple of {tile}",
            )
        corners = [(top // tile, left // tile) for top, left in self]
        return torch.stack([grid[r : r + wide, c : c + wide].flatten(0, 1) for r, c in corners])


def gaussian(length: int, sigma: float) -> Tensor:
    """``exp(-x**2 / sigma**2)`` at ``length`` places from -1 to 1, float32."""
    return torch.exp(-((torch.linspace(-1, 1, length) / sigma) ** 2))


def _starts(length: int, side: int, stride: int) -> tuple[int, ...]:
    starts = list(range(0, length - side + 1, stride))
    if starts[-1] != length - side:
        starts.append(length - side)
    return tuple(starts)
