"""Tissue of the phantom: how much haematoxylin and eosin lies where.

Everything is painted at 0.5 µm/px, half the resolution of the slide; nuclei, which carry the fine
detail, are listed here and stamped at full resolution by `phantom_nuclei.stamp`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pixcell_share.slides.phantom_nuclei import Float, Nuclei, at, cell_borders, scatter

PAINT_MPP = 0.5
"""Resolution of the painting, µm/px."""

ENLARGEMENT = 2
"""Pixels of the slide per pixel of the painting."""

LABELS = ("gland", "tumour", "stroma")
"""What a phantom slide mostly is."""

_Mask = NDArray[np.bool_]


@dataclass
class Painting:
    """The stains of one section while it is painted; arrays are float32 (H, W)."""

    haematoxylin: Float
    eosin: Float
    section: Float
    """1 on the section, 0 on glass, soft at the edge."""
    nuclei: list[Nuclei] = field(default_factory=list)

    def add_nuclei(self, kind: str, points: Float, angle: Float) -> None:
        """List nuclei at ``points`` (N, 2) of the painting; those on glass are left out."""
        inside = at(self.section, points) > 0.9
        self.nuclei.append(Nuclei(kind, points[inside] * ENLARGEMENT, angle[inside]))

    def nuclei_of(self, kind: str) -> Nuclei:
        """All nuclei of one type, in full-resolution pixels."""
        groups = [group for group in self.nuclei if group.kind == kind]
        if not groups:
            return Nuclei(kind, np.empty((0, 2), np.float32), np.empty(0, np.float32))
        return Nuclei(
            kind,
            np.concatenate([group.xy for group in groups]),
            np.concatenate([group.angle for group in groups]),
        )


def paint(shape: tuple[int, int], label: str, rng: np.random.Generator) -> Painting:
    """Paint one section of mostly ``label`` tissue on a canvas of ``shape`` (H, W)."""
    section = _section(shape, rng)
    painting = Painting(np.zeros(shape, np.float32), np.zeros(shape, np.float32), section)
    kinds = _regions(shape, label, rng)
    direction = _paint_stroma(painting, rng)
    taken = _paint_nests(painting, kinds == LABELS.index("tumour"), rng)
    taken |= _paint_glands(painting, kinds == LABELS.index("gland"), rng)
    taken |= _paint_vessels(painting, ~taken, rng)
    _scatter_stroma_cells(painting, ~taken, direction, label, rng)
    painting.haematoxylin *= section
    painting.eosin *= section
    return painting


def noise(shape: tuple[int, int], cell: float, rng: np.random.Generator) -> Float:
    """Smooth noise of unit variance whose blobs are about ``cell`` px wide; float32 (H, W)."""
    coarse = tuple(int(np.ceil(side / cell)) + 3 for side in shape)
    grid = Image.fromarray(rng.standard_normal(coarse).astype(np.float32))
    shift = rng.uniform(0, 1, 2)
    box = (shift[0], shift[1], shift[0] + shape[1] / cell, shift[1] + shape[0] / cell)
    smooth = grid.resize((shape[1], shape[0]), Image.Resampling.BICUBIC, box=box)
    return np.asarray(smooth) * np.float32(1.35)


def _section(shape: tuple[int, int], rng: np.random.Generator) -> Float:
    """An irregular piece of tissue that leaves glass around it, 0 to 1."""
    height, width = shape
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    body = 0.86 - (np.abs(x) ** 2.6 + np.abs(y) ** 2.6).astype(np.float32)
    for cell, amount in ((700, 0.16), (160, 0.05), (40, 0.02), (9, 0.006)):
        body += amount * noise(shape, cell, rng)
    return np.clip(body * 60, 0, 1)


def _regions(shape: tuple[int, int], label: str, rng: np.random.Generator) -> NDArray[np.intp]:
    """Which of `LABELS` each pixel belongs to, (H, W); ``label`` holds the largest part."""
    fields = [
        noise(shape, 620, rng) + 0.25 * noise(shape, 120, rng) + (1.1 if name == label else 0.0)
        for name in LABELS
    ]
    return np.argmax(fields, axis=0)


def _paint_stroma(painting: Painting, rng: np.random.Generator) -> Float:
    """Wavy collagen everywhere; returns the direction of its fibres, radians (H, W).

    A fibre is a line of constant phase; the phase is a ramp bent by smooth noise, and a random
    function of the phase alone says how dense each fibre is.
    """
    shape = painting.eosin.shape
    turn = rng.uniform(0, np.pi)
    y, x = np.ogrid[: shape[0], : shape[1]]
    phase = (x * np.cos(turn) + y * np.sin(turn)).astype(np.float32)
    phase += 190 * noise(shape, 620, rng) + 26 * noise(shape, 130, rng)
    small = phase[::8, ::8]
    down, across = np.gradient(small)
    direction = _enlarged(np.arctan2(-across, down).astype(np.float32), shape, nearest=True)
    phase += 1.9 * noise(shape, 22, rng)

    span = int(np.ptp(phase)) + 4
    start = float(phase.min()) - 1
    bundle = _profile(span, 34, rng)
    fibre = _profile(span * 4, 14, rng)
    index = phase - start
    dense = bundle[index.astype(np.int32)] * 0.11
    dense += fibre[(index * 4).astype(np.int32)] * (0.10 + 0.035 * noise(shape, 34, rng))
    eosin = 0.36 + dense + 0.05 * noise(shape, 260, rng)
    eosin += 0.03 * noise(shape, 3, rng)
    cleft = bundle[index.astype(np.int32)] + 0.7 * noise(shape, 70, rng)
    eosin *= 1 - 0.85 * np.clip((-cleft - 1.75) * 3, 0, 1)
    painting.eosin += np.maximum(eosin, 0.02)
    painting.haematoxylin += 0.03 + 0.02 * np.clip(noise(shape, 90, rng), 0, 2)
    return direction


def _profile(length: int, smooth: float, rng: np.random.Generator) -> Float:
    """A random function of unit variance on ``length`` points, smooth over ``smooth`` points."""
    values = ndimage.gaussian_filter1d(rng.standard_normal(length), smooth / 2.5)
    return np.asarray(values / values.std(), dtype=np.float32)


def _enlarged(small: Float, shape: tuple[int, int], nearest: bool = False) -> Float:
    way = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(small).resize((shape[1], shape[0]), way))


def _blend(painting: Painting, cover: Float, haematoxylin: Float, eosin: Float) -> None:
    """Replace the stains by the given ones where ``cover`` (0 to 1) says so."""
    painting.haematoxylin += cover * (haematoxylin - painting.haematoxylin)
    painting.eosin += cover * (eosin - painting.eosin)


def _paint_nests(painting: Painting, region: _Mask, rng: np.random.Generator) -> _Mask:
    """Solid nests of tumour cells; returns where they are."""
    shape = region.shape
    inner = ndimage.gaussian_filter(region.astype(np.float32), 12)
    body = 1.5 * (inner - 0.5) + 0.55 * noise(shape, 95, rng) + 0.16 * noise(shape, 24, rng) + 0.15
    cover = np.clip(body * 5, 0, 1) * np.clip(inner * 8 - 2, 0, 1)
    nest = cover > 0.5
    points = scatter(25.0, shape, rng)
    points = points[np.asarray(at(nest, points), dtype=bool)]
    border = _enlarged(ndimage.gaussian_filter(cell_borders(points, shape), 0.6), shape)
    grain = noise(shape, 4, rng)
    eosin = 0.33 + 0.04 * noise(shape, 45, rng) + 0.035 * grain - 0.13 * border
    haematoxylin = 0.17 + 0.03 * noise(shape, 60, rng) + 0.02 * grain - 0.06 * border
    _blend(painting, cover, haematoxylin, eosin)
    dividing = rng.random(len(points)) < 0.012
    angle = rng.uniform(0, np.pi, len(points)).astype(np.float32)
    painting.add_nuclei("tumour", points[~dividing], angle[~dividing])
    painting.add_nuclei("mitosis", points[dividing], angle[dividing])
    return nest


def _paint_glands(painting: Painting, region: _Mask, rng: np.random.Generator) -> _Mask:
    """Round and oval glands with a lumen; returns where they are."""
    taken = np.zeros(region.shape, dtype=bool)
    centres = scatter(205.0, region.shape, rng, jitter=0.09)
    for centre in centres[np.asarray(at(region, centres), dtype=bool)]:
        if at(painting.section, centre[None])[0] > 0.9:
            _paint_gland(painting, taken, centre, rng)
    return taken


def _paint_gland(painting: Painting, taken: _Mask, centre: Float, rng: np.random.Generator) -> None:
    """One gland: lumen, a layer of columnar cells with nuclei at its base, basement membrane."""
    outer, wall = rng.uniform(66, 92), rng.uniform(38, 48)
    stretch, turn = rng.uniform(1.0, 1.35), rng.uniform(0, np.pi)
    waves = [(k, rng.normal(0, 0.075), rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4, 6)]
    reach = int(outer * stretch * 1.3) + 6
    rows, columns, x, y = _window(painting.eosin.shape, centre, reach)
    if not x.size:
        return
    u = (x * np.cos(turn) + y * np.sin(turn)) / stretch
    v = (y * np.cos(turn) - x * np.sin(turn)) * stretch**0.5
    polar = np.arctan2(v, u)
    limit = outer * (1 + sum(a * np.cos(k * polar + p) for k, a, p in waves))
    depth = limit - np.hypot(u, v)  # from the base inward, px
    local = Painting(
        painting.haematoxylin[rows, columns], painting.eosin[rows, columns], painting.section
    )
    grain = noise(depth.shape, 4, rng)
    edge = wall + 2.5 * noise(depth.shape, 14, rng)
    towards = np.clip(depth / wall, 0, 1)
    _blend(local, np.clip((depth + 3) / 3, 0, 1), 0.14 + 0.03 * grain, 0.42 + 0.05 * grain)
    _blend(
        local, np.clip(depth / 2, 0, 1), 0.20 - 0.10 * towards + 0.03 * grain, 0.30 + 0.04 * grain
    )
    lumen = np.clip((depth - edge) / 3, 0, 1)
    secretion = 0.10 * max(0.0, rng.normal(0.3, 0.8))
    _blend(
        local,
        lumen,
        np.float32(0.01),
        np.clip(secretion * (1 + 0.6 * noise(depth.shape, 30, rng)), 0, 1),
    )
    taken[rows, columns] |= depth > -3
    for offset, step in ((0.30, 14.5), (0.52, 26.0)):
        count = int(2 * np.pi * outer / step)
        theta = np.linspace(0, 2 * np.pi, count, endpoint=False) + rng.uniform(0, 1)
        theta += rng.normal(0, 0.12 * 2 * np.pi / count, count)
        radius = outer * (1 + sum(a * np.cos(k * theta + p) for k, a, p in waves))
        radius = radius - wall * (offset + rng.normal(0, 0.05, count))
        pu, pv = radius * np.cos(theta) * stretch, radius * np.sin(theta) / stretch**0.5
        px = pu * np.cos(turn) - pv * np.sin(turn) + centre[0]
        py = pu * np.sin(turn) + pv * np.cos(turn) + centre[1]
        out = np.arctan2(py - centre[1], px - centre[0]) + rng.normal(0, 0.16, count)
        points = np.stack([px, py], axis=1).astype(np.float32)
        painting.add_nuclei("gland", points, out.astype(np.float32))


def _window(shape: tuple[int, ...], centre: Float, reach: int) -> tuple[slice, slice, Float, Float]:
    """A square around ``centre``: its rows, its columns, and x and y relative to the centre."""
    column, row = int(centre[0]), int(centre[1])
    left, right = np.clip((column - reach, column + reach), 0, shape[1])
    top, bottom = np.clip((row - reach, row + reach), 0, shape[0])
    y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
    return slice(top, bottom), slice(left, right), x - centre[0], y - centre[1]


def _paint_vessels(painting: Painting, free: _Mask, rng: np.random.Generator) -> _Mask:
    """Small vessels with flat endothelium and red cells; returns where they are."""
    taken = np.zeros(free.shape, dtype=bool)
    centres = scatter(420.0, free.shape, rng, jitter=0.3)
    room = ndimage.minimum_filter(free[::4, ::4], 17)
    for centre in centres[np.asarray(at(room, centres / 4), dtype=bool)]:
        radius, stretch = rng.uniform(16, 34), rng.uniform(1, 1.9)
        turn = rng.uniform(0, np.pi)
        rows, columns, x, y = _window(free.shape, centre, int(radius * stretch) + 12)
        if not x.size:
            continue
        u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        depth = radius * (1 + 0.08 * noise(x.shape, 24, rng)) - np.hypot(u / stretch, v)
        local = Painting(
            painting.haematoxylin[rows, columns], painting.eosin[rows, columns], painting.section
        )
        _blend(local, np.clip((depth + 5) / 2, 0, 1), np.float32(0.10), np.float32(0.62))
        _blend(local, np.clip(depth / 2, 0, 1), np.float32(0.01), np.float32(0.05))
        cells = scatter(15.0, x.shape, rng)
        cells = cells[rng.random(len(cells)) < rng.uniform(0.2, 0.9)]
        blank = np.ones(x.shape, dtype=bool)
        blank[
            tuple(np.clip(np.round(cells[:, ::-1].T).astype(int), 0, np.array([x.shape]).T - 1))
        ] = False
        red = (
            np.clip((6.5 - ndimage.distance_transform_edt(blank)) / 1.5, 0, 1)
            if len(cells)
            else 0 * x
        )
        _blend(local, red * np.clip((depth - 3) / 2, 0, 1), np.float32(0.02), np.float32(0.85))
        taken[rows, columns] |= depth > -8
        count = max(5, int(radius * stretch / 5))
        theta = rng.uniform(0, 2 * np.pi, count)
        pu, pv = (radius + 2) * stretch * np.cos(theta), (radius + 2) * np.sin(theta)
        points = np.stack(
            [pu * np.cos(turn) - pv * np.sin(turn), pu * np.sin(turn) + pv * np.cos(turn)], axis=1
        )
        along = np.arctan2(np.cos(theta), -stretch * np.sin(theta)) + turn
        painting.add_nuclei(
            "fibroblast", (points + centre).astype(np.float32), along.astype(np.float32)
        )
    return taken


def _scatter_stroma_cells(
    painting: Painting, free: _Mask, direction: Float, label: str, rng: np.random.Generator
) -> None:
    """Fibroblasts along the fibres and lymphocytes, loose and in aggregates, where it is free."""
    shape = free.shape
    spindles = scatter(46.0, shape, rng, jitter=0.35)
    spindles = spindles[np.asarray(at(free, spindles), dtype=bool)]
    angle = np.asarray(at(direction, spindles)) + rng.normal(0, 0.12, len(spindles))
    painting.add_nuclei("fibroblast", spindles, angle.astype(np.float32))

    crowd = noise(shape, 210, rng) + 0.4 * noise(shape, 60, rng)
    likely = np.clip((crowd - (0.9 if label == "stroma" else 1.4)) * 1.2, 0, 0.92) + 0.025
    cells = scatter(17.5, shape, rng)
    cells = cells[np.asarray(at(free, cells), dtype=bool)]
    cells = cells[rng.random(len(cells)) < np.asarray(at(likely, cells))]
    painting.add_nuclei("lymphocyte", cells, rng.uniform(0, np.pi, len(cells)).astype(np.float32))
    dense = np.clip(likely - 0.2, 0, 1) * free
    painting.haematoxylin += 0.10 * dense
    painting.eosin -= 0.25 * dense * painting.eosin
