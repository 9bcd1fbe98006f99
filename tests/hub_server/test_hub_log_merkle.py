"""The Merkle tree against the vectors of Certificate Transparency, and against its definition."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_server.log.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    tree_root,
    verify_consistency,
    verify_inclusion,
)

# Leaves, roots and proofs of the reference implementation (google/certificate-transparency,
# cpp/merkletree/merkle_tree_test.cc), which transparency-dev/merkle uses to this day.
DATA = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
LEAVES = [leaf_hash(data) for data in DATA]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
A = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
B = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
C = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
D = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
E = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
F = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
INCLUSION = {
    (0, 1): [],
    (0, 8): [A, B, C],
    (5, 8): [D, E, ROOTS[3]],
    (2, 3): [ROOTS[1]],
    (1, 5): [ROOTS[0], B, D],
}
CONSISTENCY = {(1, 1): [], (1, 8): [A, B, C], (6, 8): [F, E, ROOTS[3]], (2, 5): [B, D]}


def hexed(hashes: Sequence[bytes]) -> list[str]:
    return [each.hex() for each in hashes]


def test_the_roots_of_certificate_transparency() -> None:
    assert EMPTY_ROOT.hex() == hashlib.sha256().hexdigest() == tree_root([]).hex()
    assert [tree_root(LEAVES[:size]).hex() for size in range(1, 9)] == ROOTS


@pytest.mark.parametrize(("place", "expected"), INCLUSION.items())
def test_its_inclusion_proofs(place: tuple[int, int], expected: list[str]) -> None:
    index, size = place
    assert hexed(inclusion_proof(LEAVES[:size], index)) == expected


@pytest.mark.parametrize(("sizes", "expected"), CONSISTENCY.items())
def test_its_consistency_proofs(sizes: tuple[int, int], expected: list[str]) -> None:
    older, size = sizes
    assert hexed(consistency_proof(LEAVES[:size], older)) == expected


def leaves(count: int) -> list[bytes]:
    return [leaf_hash(number.to_bytes(4, "big")) for number in range(count)]


MANY = leaves(70)


def defined_root(part: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1, word for word."""
    if len(part) == 1:
        return part[0]
    k = 1
    while 2 * k < len(part):
        k *= 2
    both = b"\x01" + defined_root(part[:k]) + defined_root(part[k:])
    return hashlib.sha256(both).digest()


def test_growing_leaf_by_leaf_gives_the_defined_root() -> None:
    tree = Frontier()
    for size, leaf in enumerate(MANY, 1):
        tree = tree.push(leaf)
        assert tree.size == size
        assert len(tree.roots) == size.bit_count()
        assert tree.root() == defined_root(MANY[:size])


def test_every_proof_of_small_trees_holds() -> None:
    for size in range(1, 34):
        part, root = MANY[:size], defined_root(MANY[:size])
        for index in range(size):
            proof = inclusion_proof(part, index)
            assert verify_inclusion(part[index], index, size, proof, root)
        for older in range(1, size + 1):
            proof = consistency_proof(part, older)
            assert verify_consistency(older, defined_root(part[:older]), size, root, proof)


sizes = st.integers(1, 70)


@st.composite
def inclusion_cases(draw: st.DrawFn) -> tuple[int, int, list[bytes]]:
    size = draw(sizes)
    index = draw(st.integers(0, size - 1))
    return size, index, inclusion_proof(MANY[:size], index)


@st.composite
def damaged(draw: st.DrawFn, proof: Sequence[bytes]) -> list[bytes]:
    """The proof with one hash changed, left out, doubled, or put in."""
    hashes, kind = list(proof), draw(st.sampled_from(["change", "drop", "double", "insert"]))
    place = draw(st.integers(0, max(0, len(hashes) - 1)))
    if kind == "insert" or not hashes:
        hashes.insert(place, draw(st.sampled_from([*MANY, EMPTY_ROOT])))
    elif kind == "change":
        hashes[place] = hashes[place][:-1] + bytes([hashes[place][-1] ^ 1])
    elif kind == "drop":
        del hashes[place]
    else:
        hashes.insert(place, hashes[place])
    return hashes


@given(data=st.data())
def test_a_damaged_inclusion_proof_fails(data: st.DataObject) -> None:
    size, index, proof = data.draw(inclusion_cases())
    root = tree_root(MANY[:size])
    bad = data.draw(damaged(proof))
    assert not verify_inclusion(MANY[index], index, size, bad, root)


@given(data=st.data())
def test_an_inclusion_proof_is_good_for_its_place_only(data: st.DataObject) -> None:
    size, index, proof = data.draw(inclusion_cases())
    root = tree_root(MANY[:size])
    other = data.draw(st.integers(-1, size + 1))
    assert verify_inclusion(MANY[index], other, size, proof, root) == (other == index)
    assert not verify_inclusion(leaf_hash(b"x"), index, size, proof, root)
    assert not verify_inclusion(MANY[index], index, size, proof, leaf_hash(b"x"))


@given(data=st.data())
def test_a_damaged_consistency_proof_fails(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 70))
    older = data.draw(st.integers(1, size - 1))
    before, after = tree_root(MANY[:older]), tree_root(MANY[:size])
    proof = consistency_proof(MANY[:size], older)
    bad = data.draw(damaged(proof))
    assert not verify_consistency(older, before, size, after, bad)
    assert not verify_consistency(older, leaf_hash(b"x"), size, after, proof)
    assert not verify_consistency(older, before, size, leaf_hash(b"x"), proof)


@given(older=sizes, size=sizes, changed=st.integers(0, 69))
def test_a_log_with_another_past_has_no_proof(older: int, size: int, changed: int) -> None:
    """The honest prover of a forked log cannot satisfy who kept the root of before."""
    if not (changed < older < size):
        return
    forked = [*MANY]
    forked[changed] = leaf_hash(b"forked")
    proof = consistency_proof(forked[:size], older)
    kept, now = tree_root(MANY[:older]), tree_root(forked[:size])
    assert not verify_consistency(older, kept, size, now, proof)


def test_equal_trees_need_equal_roots_and_no_proof() -> None:
    root, other = tree_root(MANY[:5]), tree_root(MANY[:6])
    assert verify_consistency(5, root, 5, root, [])
    assert not verify_consistency(5, root, 5, other, [])
    assert not verify_consistency(5, root, 5, root, [root])
    assert not verify_consistency(0, EMPTY_ROOT, 5, root, [])
    assert not verify_consistency(6, other, 5, root, [root])


@pytest.mark.parametrize(("make", "number"), [(inclusion_proof, 5), (consistency_proof, 6)])
def test_there_is_no_proof_of_what_is_not_there(make: object, number: int) -> None:
    with pytest.raises(ValueError, match=r"leaf|leaves"):
        make(MANY[:5], number)
    with pytest.raises(ValueError, match=r"leaf|leaves"):
        make(MANY[:5], -1)
    with pytest.raises(ValueError, match="binary ones"):
        Frontier(3, (MANY[0],))
