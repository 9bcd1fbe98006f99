"""Connective tissue of the phantom: collagen, vessels, fibroblasts and lymphocytes."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

from pixcell_share.slides._phantom_canvas import (
    Canvas,
    Float,
    Mask,
    at,
    noise,
    ramp,
    random_angles,
    scatter,
    where,
)


def paint_collagen(canvas: Canvas, rng: np.random.Generator) -> Float:
    """Wavy collagen everywhere; returns the direction of its fibres, radians, (H, W).

    A fibre is a line of constant phase; the phase is a ramp bent by smooth noise, and a random
    function of the phase alone says how dense each fibre is.
    """
    shape = canvas.shape
    phase, direction = _phase(shape, rng)
    phase += 1.8 * noise(shape, 24, rng) + 0.9 * noise(shape, 9, rng)
    phase -= phase.min()
    span = int(phase.max()) + 2
    bundle = _profile(span, 30, rng)[phase.astype(np.int32)]
    fibre = _profile(4 * span, 11, rng)[(4 * phase).astype(np.int32)]

    eosin = 0.34 + 0.05 * noise(shape, 260, rng) + 0.035 * noise(shape, 60, rng)
    eosin += 0.07 * bundle + fibre * (0.085 + 0.05 * noise(shape, 40, rng))
    eosin += 0.03 * noise(shape, 3, rng)
    gap = np.maximum(
        ramp(-bundle - 1.45 + 0.7 * noise(shape, 70, rng), 0.4),
        ramp(-fibre - 1.35 + 0.9 * noise(shape, 46, rng), 0.8),
    )
    canvas.eosin += np.maximum(eosin * (1 - 0.85 * gap), 0.02)
    canvas.haematoxylin += 0.035 + 0.02 * np.clip(noise(shape, 90, rng), 0, 2)
    return direction


def paint_vessels(canvas: Canvas, free: Mask, rng: np.random.Generator) -> Mask:
    """Small vessels with flat endothelium and red cells; returns where they are, (H, W)."""
    taken = np.zeros(canvas.shape, dtype=bool)
    room = ndimage.minimum_filter(free[::4, ::4], 21)
    centres = scatter(400.0, canvas.shape, rng, jitter=0.3)
    for centre in 4 * where(room, centres / np.float32(4)):
        _paint_vessel(canvas, taken, centre, rng)
    return taken


def scatter_cells(
    canvas: Canvas, free: Mask, direction: Float, crowding: float, rng: np.random.Generator
) -> None:
    """Fibroblasts along the fibres, and lymphocytes: some alone, some in aggregates.

    Args:
        canvas: to paint on.
        free: where connective tissue is, (H, W).
        direction: of the fibres, radians, (H, W).
        crowding: 0 for few lymphocytes; at 0.5 a fourth of the stroma holds an aggregate.
        rng: source of chance.
    """
    spindles = where(free, scatter(44.0, canvas.shape, rng, jitter=0.35))
    angle = at(direction, spindles) + rng.normal(0, 0.12, len(spindles))
    canvas.add_nuclei("fibroblast", spindles, angle.astype(np.float32))

    crowd = noise(canvas.shape, 210, rng) + 0.4 * noise(canvas.shape, 60, rng) + crowding
    likely = 0.9 * ramp(crowd - 1.4, 0.75) + np.float32(0.025)
    cells = where(free, scatter(17.0, canvas.shape, rng, jitter=0.22))
    cells = cells[rng.random(len(cells)) < at(likely, cells)]
    canvas.add_nuclei("lymphocyte", cells, random_angles(len(cells), rng))
    canvas.blend(ramp(likely - 0.2, 2.0) * free, 0.16, 0.24)


def _phase(shape: tuple[int, int], rng: np.random.Generator) -> tuple[Float, Float]:
    """The phase of the collagen, px, and the direction of its lines, radians; each (H, W)."""
    turn = rng.uniform(0, np.pi)
    y, x = np.ogrid[: shape[0], : shape[1]]
    phase = (x * np.cos(turn) + y * np.sin(turn)).astype(np.float32)
    phase += 170 * noise(shape, 620, rng) + 24 * noise(shape, 130, rng)
    down, across = np.gradient(phase[::8, ::8])
    small = Image.fromarray(np.arctan2(-across, down).astype(np.float32))
    direction = small.resize((shape[1], shape[0]), Image.Resampling.NEAREST)
    return phase, np.asarray(direction)


def _profile(length: int, smooth: float, rng: np.random.Generator) -> Float:
    """A random function of unit variance on ``length`` points, smooth over ``smooth`` points."""
    values = ndimage.gaussian_filter1d(rng.standard_normal(length), smooth / 2.5)
    return np.asarray(values / values.std(), dtype=np.float32)


def _paint_vessel(canvas: Canvas, taken: Mask, centre: Float, rng: np.random.Generator) -> None:
    """One oval vessel: a pink wall, flat nuclei on it, red cells in its lumen."""
    radius, stretch, turn = rng.uniform(16, 34), rng.uniform(1, 1.9), rng.uniform(0, np.pi)
    part, place, x, y = canvas.window(centre, int(radius * stretch) + 12)
    if not x.size:
        return
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    depth = radius * (1 + 0.08 * noise(x.shape, 24, rng)) - np.hypot(u / stretch, v)
    part.blend(ramp(depth + 5, 2), 0.08, 0.56)
    part.blend(ramp(depth, 2), 0.01, 0.04)
    part.blend(_red_cells(x.shape, rng) * ramp(depth - 2, 2), 0.02, 0.74)
    taken[place] |= depth > -8

    theta = rng.uniform(0, 2 * np.pi, max(5, int(radius * stretch / 5)))
    u, v = (radius + 2) * stretch * np.cos(theta), (radius + 2) * np.sin(theta)
    points = np.stack(
        [u * np.cos(turn) - v * np.sin(turn), u * np.sin(turn) + v * np.cos(turn)], axis=1
    )
    tangent = np.arctan2(np.cos(theta), -stretch * np.sin(theta)) + turn
    points = (points + centre).astype(np.float32)
    canvas.add_nuclei("fibroblast", points, tangent.astype(np.float32))


def _red_cells(shape: tuple[int, ...], rng: np.random.Generator) -> Float:
    """Discs of 6 to 7 µm that fill a vessel more or less, 0 to 1, (H, W)."""
    cells = scatter(14.5, shape, rng, jitter=0.2)
    cells = cells[rng.random(len(cells)) < rng.uniform(0.2, 0.95)]
    limits = np.array(shape) - 1
    free = np.ones(shape, dtype=bool)
    free[tuple(np.clip(np.round(cells[:, ::-1]).astype(int), 0, limits).T)] = False
    if free.all():
        return np.zeros(shape, dtype=np.float32)
    return ramp(6.4 - ndimage.distance_transform_edt(free), 1.5)
