"""The Merkle tree of RFC 6962 (2.1) and its proofs, as RFC 9162 (2.1) checks them.

Hashes are SHA-256, 32 bytes. Leaves are numbered from 0. Nothing here knows what a leaf is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

EMPTY_ROOT = hashlib.sha256(b"").digest()
"""Root of the tree without leaves."""


def leaf_hash(data: bytes) -> bytes:
    """``SHA-256(0x00 || data)``."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """``SHA-256(0x01 || left || right)``; the first byte keeps leaves and nodes apart."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True)
class Frontier:
    """All that a tree must remember to grow: the roots of its full subtrees, the largest first.

    There is one for each 1 in the binary digits of the size, so a leaf more costs O(log n).
    """

    size: int = 0
    roots: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.roots) != self.size.bit_count():
            raise ValueError("as many roots as the size has binary ones")

    def push(self, leaf: bytes) -> Frontier:
        """The tree with one more leaf, given by its hash."""
        roots, level = [*self.roots, leaf], self.size
        while level & 1:  # two subtrees of one height become one
            right, left = roots.pop(), roots.pop()
            roots.append(node_hash(left, right))
            level >>= 1
        return Frontier(self.size + 1, tuple(roots))

    def root(self) -> bytes:
        """Root of the whole tree."""
        if not self.roots:
            return EMPTY_ROOT
        *larger, root = self.roots
        for left in reversed(larger):
            root = node_hash(left, root)
        return root


def tree_root(leaves: Iterable[bytes]) -> bytes:
    """Root of the tree over these leaf hashes."""
    tree = Frontier()
    for leaf in leaves:
        tree = tree.push(leaf)
    return tree.root()


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The audit path ``PATH(index, leaves)``: siblings on the way up, from the leaf on.

    Raises:
        ValueError: there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise ValueError("no such leaf")
    path: list[bytes] = []
    start, end = 0, len(leaves)
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(tree_root(leaves[middle:end]))
            end = middle
        else:
            path.append(tree_root(leaves[start:middle]))
            start = middle
    return path[::-1]


def consistency_proof(leaves: Sequence[bytes], older: int) -> list[bytes]:
    """``PROOF(older, leaves)``: that the tree of the first ``older`` leaves is a part of this one.

    Raises:
        ValueError: the older tree is empty or larger.
    """
    if not 0 < older <= len(leaves):
        raise ValueError("the older tree must have 1 to n leaves")
    path: list[bytes] = []
    start, end, whole = 0, len(leaves), True
    while older != end - start:
        middle = _split(end - start)
        if older <= middle:
            path.append(tree_root(leaves[start + middle : end]))
            end = start + middle
        else:
            path.append(tree_root(leaves[start : start + middle]))
            start, older, whole = start + middle, older - middle, False
    if not whole:
        path.append(tree_root(leaves[start:end]))
    return path[::-1]


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> bool:
    """Whether ``proof`` shows that ``leaf`` is number ``index`` of the tree (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    place, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            found = node_hash(sibling, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and found == root


def verify_consistency(
    older: int, older_root: bytes, size: int, root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether ``proof`` shows that the older tree is the beginning of this one.

    RFC 9162, 2.1.4.2; equal sizes need equal roots and no proof.
    """
    if older == size:
        return not proof and older_root == root
    if not 0 < older < size or not proof:
        return False
    hashes = [older_root, *proof] if older & (older - 1) == 0 else list(proof)
    place, last = older - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    before = after = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and before == older_root and after == root


def _split(size: int) -> int:
    """The largest power of two below ``size``."""
    return 1 << (size - 1).bit_length() - 1
