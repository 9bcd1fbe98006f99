from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pixcell_share.errors import SettingsError
from pixcell_share.privacy import TRANSFORMS, NearCopyIndex, NearCopySettings, fingerprint
from pixcell_share.privacy.fingerprints import transform, variants, whitened
from pixcell_share.privacy.plants import PLANTS, crop

SETTINGS = NearCopySettings()


def textures(count, seed=0, side=64):
    """Smooth random colour textures (count, side, side, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (count, side // 4, side // 4, 3))
    return np.kron(coarse, np.ones((1, 4, 4, 1))).astype(np.uint8)


@pytest.mark.parametrize("turn", range(8))
def test_a_turned_copy_names_its_source_and_its_transform(turn, embed, build):
    tiles = textures(50)
    copy = transform(tiles[17], turn)[None].astype(np.uint8)
    (found,) = build(tiles).search(copy, embed(copy), tiles.__getitem__)
    assert (found.pixel_index, found.near_copy) == (17, True)
    assert found.pixel_ncc == pytest.approx(1.0, abs=1e-5)
    undone = transform(copy[0], TRANSFORMS.index(found.transform))
    assert np.array_equal(undone, tiles[17])


def test_unrelated_textures_are_not_near_copies(embed, build):
    found = build(textures(200)).search(
        *(queries := (textures(40, seed=1), embed(textures(40, seed=1)))),
        textures(200).__getitem__,
    )
    assert len(found) == len(queries[0])
    assert not any(nearest.pixel_ncc >= SETTINGS.pixel_limit for nearest in found)


def test_all_real_tiles_are_searched_exactly(lung_tiles, embed, build):
    """The candidates are those of scikit-learn's exhaustive search, over all eight transforms."""
    neighbours = pytest.importorskip("sklearn.neighbors")
    real, queries = lung_tiles[:90], lung_tiles[90:]
    alone = replace(SETTINGS, block_rows=7, candidates=3, candidate_limit=-1, crop_candidates=0)
    index = build(real, alone)
    prints = np.concatenate(
        [fingerprint(np.stack([transform(tile, turn) for tile in queries])) for turn in range(8)]
    )
    exhaustive = neighbours.NearestNeighbors(n_neighbors=90, algorithm="brute")
    exhaustive.fit(whitened(fingerprint(real)).astype(np.float64))
    distances, order = exhaustive.kneighbors(whitened(prints).astype(np.float64))
    by_real = np.take_along_axis(distances, order.argsort(axis=1), axis=1)
    expected = by_real.reshape(8, len(queries), 90).min(axis=0).argsort(axis=1)[:, :3]

    asked = []

    def real_tile(place):
        asked.append(place)
        return real[place]

    for query, wanted in zip(queries, expected, strict=True):
        asked.clear()
        index.search(query[None], embed(query[None]), real_tile)
        assert asked == wanted.tolist()


def test_encoder_neighbours_are_those_of_an_exhaustive_search(lung_tiles):
    neighbours = pytest.importorskip("sklearn.neighbors")
    rng = np.random.default_rng(0)
    real = rng.normal(size=(500, 40)).astype(np.float32)
    queries = rng.normal(size=(20, 40)).astype(np.float32)
    index = NearCopyIndex(replace(SETTINGS, block_rows=64))
    index.add(np.repeat(fingerprint(lung_tiles[:1]), 500, axis=0), real)
    found = index.search(lung_tiles[:20], queries, lambda place: lung_tiles[0])
    exhaustive = neighbours.NearestNeighbors(n_neighbors=1, metric="cosine").fit(real)
    distances, order = exhaustive.kneighbors(queries)
    assert [nearest.embedding_index for nearest in found] == order[:, 0].tolist()
    cosines = [nearest.embedding_similarity for nearest in found]
    np.testing.assert_allclose(cosines, 1 - distances[:, 0], atol=1e-3)


def directions(degrees):
    """Unit vectors in a plane (N, 2)."""
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)


def test_a_run_raises_the_limit_of_an_encoder_that_finds_real_tiles_alike():
    """Neighbours 2 degrees apart: a tile closer than that to a real one is a copy."""
    real = directions(np.arange(0, 100, 2.0)).astype(np.float32)
    index = NearCopyIndex(SETTINGS)
    tiles = textures(50)
    index.add(fingerprint(tiles), real)
    assert index.encoder_limit == pytest.approx(np.cos(np.radians(2)), abs=1e-3)
    assert index.encoder_limit > SETTINGS.embedding_limit
    queries = directions(np.array([105.0, 50.1])).astype(np.float32)
    beside, copied = index.search(textures(2, seed=1), queries, tiles.__getitem__)
    assert SETTINGS.embedding_limit < beside.embedding_similarity < index.encoder_limit
    assert not beside.near_copy
    assert (copied.near_copy, copied.embedding_index) == (True, 25)


def test_an_encoder_that_tells_tiles_apart_keeps_the_limit_of_the_site():
    """Also where two real tiles of sixty are the same."""
    index = NearCopyIndex(SETTINGS)
    assert index.encoder_limit == SETTINGS.embedding_limit
    real = np.eye(60, dtype=np.float32)
    real[1] = real[0]
    index.add(fingerprint(textures(60)), real)
    assert index.encoder_limit == SETTINGS.embedding_limit


def test_score_is_the_textbook_correlation_where_nothing_is_shifted(lung_tiles, embed):
    """64 px tiles, no shift: the score is Pearson's correlation of their band-passed luma."""
    real, other = lung_tiles[0, :64, :64], lung_tiles[1, :64, :64]
    index = NearCopyIndex(replace(SETTINGS, shift=0))
    index.add(fingerprint(real[None]), embed(real[None]))
    (found,) = index.search(other[None], embed(other[None]), lambda place: real)
    turned = transform(other, TRANSFORMS.index(found.transform))
    luma = [image @ np.array([0.299, 0.587, 0.114]) for image in (real, turned)]
    luma = [gaussian_filter(grey, 0.7) - gaussian_filter(grey, 4.0) for grey in luma]
    assert found.pixel_ncc == pytest.approx(
        np.corrcoef(luma[0].ravel(), luma[1].ravel())[0, 1], abs=1e-5
    )


@pytest.mark.parametrize("kind", [kind for kind in PLANTS if kind != "exact"])
def test_copies_of_real_tiles_are_caught(lung_tiles, kind, embed, build):
    rng = np.random.default_rng(3)
    copies = np.stack([PLANTS[kind](tile, rng) for tile in lung_tiles[:30]])
    found = build(lung_tiles).search(copies, embed(copies), lung_tiles.__getitem__)
    assert [nearest.pixel_index for nearest in found] == list(range(30))
    assert min(nearest.pixel_ncc for nearest in found) >= SETTINGS.pixel_limit


@pytest.mark.parametrize("turn", [0, 1, 6])
@pytest.mark.parametrize("share", [0.9, 0.75])
def test_enlarged_parts_of_real_tiles_are_caught(lung_tiles, turn, share, embed, build):
    rng = np.random.default_rng(4)
    parts = [transform(crop(tile, share, rng), turn) for tile in lung_tiles[:12]]
    images = np.stack(parts).astype(np.uint8)
    found = build(lung_tiles).search(images, embed(images), lung_tiles.__getitem__)
    assert [near.pixel_index for near in found] == list(range(12))
    assert sum(near.near_copy for near in found) >= 11
    if share < 0.8:  # larger ones are near copies of the whole tile already
        assert np.median([near.part for near in found]) == pytest.approx(share, abs=0.04)
    undone = [TRANSFORMS.index(near.transform) for near in found]
    square = np.arange(4).reshape(2, 2)
    assert all(np.array_equal(transform(transform(square, turn), back), square) for back in undone)


def test_parts_are_not_searched_among_tiles_passed_over(lung_tiles, embed, build):
    images = np.stack([crop(tile, 0.75, np.random.default_rng(4)) for tile in lung_tiles[:6]])
    found = build(lung_tiles[:60]).search(
        images,
        embed(images),
        lung_tiles.__getitem__,
        query_groups=np.arange(6),
        row_groups=np.arange(60),
    )
    assert not any(near.pixel_index == i for i, near in enumerate(found))
    assert max(near.pixel_ncc for near in found) < SETTINGS.pixel_limit


def test_no_real_tile_left_is_refused(embed, build):
    tiles = textures(3)
    groups = np.zeros(3, np.int64)
    with pytest.raises(ValueError, match="passed over"):
        build(tiles).search(
            tiles, embed(tiles), tiles.__getitem__, query_groups=groups, row_groups=groups
        )


def test_tiles_of_other_groups_are_not_flagged_in_pixels(lung_tiles, embed, build):
    found = build(lung_tiles[:60]).search(
        lung_tiles[60:], embed(lung_tiles[60:]), lung_tiles.__getitem__
    )
    assert max(nearest.pixel_ncc for nearest in found) < SETTINGS.pixel_limit


def test_different_tiles_at_an_edge_of_the_tissue_are_not_near_copies(lung_tiles, build, embed):
    """Both halves are blank in the same place: that alone makes no copy."""
    edges = lung_tiles[:2].copy()
    edges[:, :, 112:] = 240
    (found,) = build(edges[:1]).search(edges[1:], embed(edges[1:]), edges.__getitem__)
    assert found.pixel_ncc < SETTINGS.pixel_limit


def test_result_depends_on_neither_blocks_nor_portions_nor_batches(lung_tiles, embed, build):
    queries = lung_tiles[100:]
    expected = build(lung_tiles[:100]).search(queries, embed(queries), lung_tiles.__getitem__)
    for block_rows, portion in ((1, 100), (13, 7), (100, 1)):
        index = build(lung_tiles[:100], replace(SETTINGS, block_rows=block_rows), portion)
        one_by_one = [
            index.search(query[None], embed(query[None]), lung_tiles.__getitem__)[0]
            for query in queries
        ]
        assert one_by_one == expected


def test_result_does_not_depend_on_the_order_of_the_real_tiles(lung_tiles, embed, build):
    order = np.random.default_rng(5).permutation(100)
    queries = lung_tiles[100:]
    straight = build(lung_tiles[:100]).search(queries, embed(queries), lung_tiles.__getitem__)
    shuffled = build(lung_tiles[order]).search(
        queries, embed(queries), lung_tiles[order].__getitem__
    )
    for one, other in zip(straight, shuffled, strict=True):
        renamed = replace(
            other,
            pixel_index=int(order[other.pixel_index]),
            embedding_index=int(order[other.embedding_index]),
        )
        assert renamed == one


def test_of_equal_real_tiles_the_first_is_named(embed, build):
    tiles = np.repeat(textures(1), 9, axis=0)
    index = build(tiles, replace(SETTINGS, block_rows=2))
    (found,) = index.search(tiles[:1], embed(tiles[:1]), tiles.__getitem__)
    assert (found.pixel_index, found.embedding_index) == (0, 0)


def test_blank_tiles_do_not_correlate_however_alike_their_noise(embed, build):
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.4, (64, 64, 1))
    blank = np.clip(240 + np.rint(noise), 0, 255).astype(np.uint8).repeat(3, axis=2)
    constant = np.full_like(blank, 240)
    tiles = np.stack([blank, constant])
    found = build(tiles).search(tiles, embed(tiles), tiles.__getitem__)
    assert max(nearest.pixel_ncc for nearest in found) < 0.25


def test_memory_follows_the_block_and_not_the_number_of_real_tiles(embed):
    """20,000 real tiles, 16 queries: far less than one (8 x 16, 20,000) score matrix (10 MB)."""
    import tracemalloc

    index = NearCopyIndex(replace(SETTINGS, block_rows=256, candidates=1))
    rng = np.random.default_rng(0)
    for _ in range(20):
        index.add(
            rng.normal(size=(1000, 256)).astype(np.float32),
            rng.normal(size=(1000, 8)).astype(np.float32),
        )
    queries = textures(16)
    tracemalloc.start()
    index.search(queries, embed(queries)[:, :8], lambda place: queries[0])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_embeddings_without_direction_are_refused(bad):
    tiles = textures(2)
    with pytest.raises(ValueError, match="zero or not finite"):
        NearCopyIndex().add(fingerprint(tiles), np.full((2, 3), bad, np.float32))


def test_an_empty_index_is_refused(embed):
    tiles = textures(1)
    with pytest.raises(ValueError, match="no real tile"):
        NearCopyIndex().search(tiles, embed(tiles), tiles.__getitem__)


def test_lengths_must_agree(embed, build):
    tiles = textures(3)
    with pytest.raises(ValueError, match="3 fingerprints for 2 embeddings"):
        NearCopyIndex().add(fingerprint(tiles), embed(tiles)[:2])
    with pytest.raises(ValueError, match="3 images for 2 embeddings"):
        build(tiles).search(tiles, embed(tiles)[:2], tiles.__getitem__)


@pytest.mark.parametrize(
    "wrong", [{"pixel_limit": 2}, {"embedding_limit": "high"}, {"candidates": 0}, {"shift": -1}]
)
def test_limits_that_nothing_could_reach_are_refused(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))) as refused:
        NearCopySettings(**wrong)
    assert "leave it out for the default" in refused.value.remedy


def test_whitening_commutes_with_flips_and_rotations_and_keeps_norms(lung_tiles):
    """The correlation of two tiles stays the same when both are turned."""
    prints = fingerprint(lung_tiles[:5])
    turned = whitened(variants(prints).reshape(-1, 256)).reshape(5, 8, 256)
    correlations = np.einsum("atf,btf->tab", turned, turned)
    np.testing.assert_allclose(correlations, correlations[:1].repeat(8, axis=0), atol=1e-5)
    norms = np.linalg.norm(prints, axis=1)
    np.testing.assert_allclose(np.linalg.norm(whitened(prints), axis=1), norms, rtol=1e-5)
    assert not whitened(np.zeros((1, 256), np.float32)).any()


def test_unrelated_tiles_are_less_alike_when_whitened(lung_tiles):
    prints = fingerprint(lung_tiles)
    apart = ~np.eye(len(prints), dtype=bool)
    plain, white = (np.abs(rows @ rows.T)[apart] for rows in (prints, whitened(prints)))
    assert np.quantile(white, 0.999) < 0.8 * np.quantile(plain, 0.999)
