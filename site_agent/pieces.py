"""How large the pieces are in which a file is sent: what the link carries in a few seconds."""

from __future__ import annotations

from dataclasses import dataclass

_SMALLEST = 64 << 10
_LARGEST = 16 << 20
_AIM_S = 4.0


@dataclass
class PieceSize:
    """Grows on a fast link, shrinks on a slow or a broken one.

    Args:
        limit: the most that the hub takes at once, in bytes.
    """

    limit: int
    bytes: int = 1 << 20

    def __post_init__(self) -> None:
        self._set(self.bytes)

    def took(self, count: int, seconds: float) -> None:
        """A piece of ``count`` bytes was acknowledged after ``seconds``."""
        fitting = int(count / max(seconds, 1e-3) * _AIM_S)
        self._set(max(self.bytes // 2, min(fitting, self.bytes * 2)))

    def failed(self) -> None:
        """A piece broke off."""
        self._set(self.bytes // 2)

    def _set(self, wanted: int) -> None:
        self.bytes = max(1, min(max(wanted, _SMALLEST), _LARGEST, self.limit))
