"""Masks that a mask decoder learns from: crops of labels, or made-up shapes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from digseg.train.run import Prepared
from digseg.types import BoolArray, UInt8Array

#: Draws masks ``bool [count, size, size]``, given a generator, count and size.
DrawMasks = Callable[[np.random.Generator, int, int], BoolArray]


def draw_shapes(rng: np.random.Generator, count: int, size: int) -> BoolArray:
    """Masks ``bool [count, size, size]``: blobs, ellipses, polygons, strokes; some empty."""
    kinds = (_blobs, _ellipses, _polygons, _strokes)
    masks = np.zeros((count, size, size), bool)
    for mask in masks:
        if rng.random() < 0.04:
            continue
        mask[:] = kinds[int(rng.integers(len(kinds)))](rng, size)
        if rng.random() < 0.2:  # holes, and things cut by other things
            mask ^= kinds[int(rng.integers(len(kinds)))](rng, size)
        if rng.random() < 0.1:
            mask[:] = ~mask
    return masks


def masks_of(prepared: Prepared) -> DrawMasks:
    """Crops of the labels of prepared pictures (see `train.run.prepare`), aimed at outlines."""
    infos, pictures = prepared
    names = [info.name for info in infos if len(pictures[info.name])]

    def draw(rng: np.random.Generator, count: int, size: int) -> BoolArray:
        masks = np.zeros((count, size, size), bool)
        for mask in masks:
            there = pictures[names[int(rng.integers(len(names)))]]
            labels = there[int(rng.integers(len(there)))].labels
            plane = labels[int(rng.integers(len(labels)))]
            mask[:] = _crop(plane, size, rng)
        return masks

    return draw


def _crop(labels: UInt8Array, size: int, rng: np.random.Generator) -> BoolArray:
    """One class of a crop of labels ``[H, W]``, magnified a little now and then."""
    if min(labels.shape) < size or rng.random() < 0.3:
        factor = max(1 + int(rng.integers(2)), -(-size // min(labels.shape)))
        labels = labels.repeat(factor, 0).repeat(factor, 1)
    edges = np.argwhere(labels[1:, 1:] != labels[:-1, :-1])
    centre = [int(rng.integers(length)) for length in labels.shape]
    if len(edges) and rng.random() < 0.8:
        centre = [int(place) for place in edges[int(rng.integers(len(edges)))]]
    top, left = (
        min(max(0, place - int(rng.integers(size))), length - size)
        for place, length in zip(centre, labels.shape, strict=True)
    )
    part = labels[top : top + size, left : left + size]
    values = [int(v) for v in np.unique(part) if v not in (0, 255)]
    if not values:
        return np.zeros((size, size), bool)
    return np.asarray(part == values[int(rng.integers(len(values)))])


def _blobs(rng: np.random.Generator, size: int) -> BoolArray:
    """Smooth noise cut at a level: outlines of any roughness and many parts."""
    smooth = ndimage.gaussian_filter(rng.normal(size=(size, size)), rng.uniform(1.5, size / 8))
    return np.asarray(smooth > np.quantile(smooth, rng.uniform(0.3, 0.95)))


def _ellipses(rng: np.random.Generator, size: int) -> BoolArray:
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    mask = np.zeros((size, size), bool)
    for _ in range(int(rng.integers(1, 12))):
        angle = rng.uniform(0, np.pi)
        dy, dx = (axis - rng.uniform(0, size) for axis in (y, x))
        along, across = rng.uniform(1.5, size / 3), rng.uniform(1.5, size / 5)
        u = (dx * np.cos(angle) + dy * np.sin(angle)) / along
        v = (dy * np.cos(angle) - dx * np.sin(angle)) / across
        mask |= u * u + v * v < 1
    return mask


def _polygons(rng: np.random.Generator, size: int) -> BoolArray:
    """Corners: roofs, fields, tiles cut at the edge."""
    page = Image.new("1", (size, size))
    draw = ImageDraw.Draw(page)
    for _ in range(int(rng.integers(1, 6))):
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
        reach = rng.uniform(0.05, 0.4) * size * rng.uniform(0.5, 1, len(angles))
        centre = rng.uniform(0, size, 2)
        corners = np.stack([np.cos(angles), np.sin(angles)], 1) * reach[:, None] + centre
        draw.polygon([(float(a), float(b)) for a, b in corners], fill=1)
    return np.asarray(page)


def _strokes(rng: np.random.Generator, size: int) -> BoolArray:
    """Thin things: roads, vessels, membranes."""
    page = Image.new("1", (size, size))
    draw = ImageDraw.Draw(page)
    for _ in range(int(rng.integers(1, 5))):
        steps = rng.normal(0, size / 6, (int(rng.integers(2, 8)), 2))
        points = rng.uniform(0, size, 2) + np.cumsum(steps, axis=0)
        line = [(float(a), float(b)) for a, b in points]
        draw.line(line, fill=1, width=int(rng.integers(1, 8)), joint="curve")
    return np.asarray(page)
