"""Random views of prepared pictures: one warp for image and mask, then another look.

Everything is drawn from one ``numpy.random.Generator``, so that a resumed run repeats exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from digseg.train.looks import (
    as_mr,
    in_wider_window,
    lit,
    restyled,
    synthesise,
    toned,
    without_contrast,
)
from digseg.train.pack import FALSE_COLOUR, IGNORE, NATURAL, Picture
from digseg.train.parts import Tissues
from digseg.types import Float32Array, UInt8Array


@dataclass(frozen=True)
class AugmentSettings:
    """How far pictures are changed.

    Parameters
    ----------
    size
        Side of the square crop, pixels.
    scales
        Smallest and largest magnification.
    magnify
        Fixed magnification of the set, before the random one: tiny pictures are shown larger.
    turn
        Largest rotation, degrees.
    flips, quarter_turns
        Whether mirror images and right-angle turns look as real as the original.
    elastic
        Chance of a smooth local deformation.
    synthesis
        Chance of an image drawn from the label map, as SynthSeg does (CT and MR).
    as_mr
        Chance that a CT in a window of soft tissue is shown in greys that an MR might have.
    no_contrast
        Chance that the blood in a CT is as grey as muscle, as without a contrast agent.
    wide
        Chance that a CT in a window of soft tissue is shown in a wider one, as for lungs.
    side_views
        Chance of a plane along another axis of a volume.
    false_colour
        Chance of showing near infrared as red, where there is a near infrared.
    plain
        Chance that a flat picture is only mirrored and turned by right angles, so that its pixels
        stay as sharp as they are in use.
    light
        Strength of the changes of brightness, contrast, gamma and colour.
    look
        Chance that a picture takes over the levels of another one of its domain.
    tone
        Chance of a random rising tone curve.
    cut
        Chance that a rectangle of another picture of the set, labels and all, is laid over it.
    river
        Chance that a made-up river runs through it, where its set names water.
    fields
        Chance that a part of it is made-up farmland, where its set names crops.
    as_radar
        Chance that it is shown as a radar might see it, where its set names water.
    transplant
        Chance that things of another picture of the set are set into it, at another size.
    roofs
        Chance that buildings get roofs of other colours, where its set names buildings.
    halls
        Chance that rows of made-up halls stand in it, where its set names buildings.
    nodule
        Chance that a made-up tumour lies in its lungs, where its set names lung tumours.
    heart
        Chance that a made-up heart, cut across its axis, lies in a slice of an MR scan; the set may
        name none of the heart's parts itself.
    """

    size: int = 256
    scales: tuple[float, float] = (0.6, 1.8)
    magnify: float = 1.0
    turn: float = 15.0
    flips: bool = True
    quarter_turns: bool = True
    elastic: float = 0.0
    synthesis: float = 0.0
    as_mr: float = 0.0
    no_contrast: float = 0.0
    wide: float = 0.0
    side_views: float = 0.0
    false_colour: float = 0.5
    plain: float = 0.0
    light: float = 1.0
    look: float = 0.0
    tone: float = 0.0
    cut: float = 0.0
    river: float = 0.0
    fields: float = 0.0
    as_radar: float = 0.0
    transplant: float = 0.0
    roofs: float = 0.0
    halls: float = 0.0
    nodule: float = 0.0
    heart: float = 0.0


def view(
    picture: Picture,
    settings: AugmentSettings,
    rng: np.random.Generator,
    aim: int | None = None,
    like: Picture | None = None,
    tissues: Tissues | None = None,
) -> tuple[Float32Array, UInt8Array]:
    """One random crop.

    Parameters
    ----------
    aim
        Class id that the crop is centred on, where the picture holds it.
    like
        Another picture, whose levels it may take over.
    tissues
        What the label values have in common; without it each has greys of its own.

    Returns
    -------
    ``float32 [3, size, size]`` in [0, 1] and ``uint8 [size, size]``.
    """
    pixels, labels = _plane(picture, settings, rng, aim)  # [H,W,3], [H,W]
    if tissues is not None and settings.no_contrast and rng.random() < settings.no_contrast:
        pixels = without_contrast(pixels, tissues.blood[labels], rng)
    if settings.synthesis and rng.random() < settings.synthesis:
        pixels = synthesise(pixels, labels, rng)
    elif settings.as_mr and rng.random() < settings.as_mr:
        pixels = as_mr(pixels, labels if tissues is None else tissues.kinds[labels], rng)
    elif settings.wide and rng.random() < settings.wide:
        pixels = in_wider_window(pixels, rng)
    sharp = picture.planes == 1 and settings.plain > 0 and rng.random() < settings.plain
    image, mask = _warp(pixels, labels, settings, rng, aim, sharp)
    if like is not None and settings.look and rng.random() < settings.look:
        image = restyled(image, like.pixels[like.planes // 2], rng)
    if settings.tone and rng.random() < settings.tone:
        image = toned(image, rng)
    return lit(image, settings.light, rng), mask


def _plane(
    picture: Picture, settings: AugmentSettings, rng: np.random.Generator, aim: int | None
) -> tuple[UInt8Array, UInt8Array]:
    if picture.planes == 1:
        channels = picture.pixels.shape[-1]
        if channels == 4 and rng.random() < settings.false_colour:
            order = list(FALSE_COLOUR)
        else:
            order = list(NATURAL) if channels >= 3 else [0, 0, 0]
        return picture.pixels[0][..., order], picture.labels[0]
    axis = int(rng.integers(1, 3)) if rng.random() < settings.side_views else 0
    labels = np.moveaxis(picture.labels, axis, 0)
    pixels = np.moveaxis(picture.pixels[..., 0], axis, 0)
    if axis:  # head up, as side views are shown
        labels, pixels = labels[:, ::-1], pixels[:, ::-1]
    hits = np.flatnonzero((labels == aim).any((1, 2))) if aim is not None else np.array([])
    z = int(rng.choice(hits)) if hits.size else int(rng.integers(len(labels)))
    step = 0 if rng.random() < 0.2 else 1  # one in five: as from a single slice
    around = [max(0, z - step), z, min(len(labels) - 1, z + step)]
    return np.stack([pixels[i] for i in around], -1), np.ascontiguousarray(labels[z])


def _warp(
    pixels: UInt8Array,
    labels: UInt8Array,
    settings: AugmentSettings,
    rng: np.random.Generator,
    aim: int | None,
    sharp: bool = False,
) -> tuple[UInt8Array, UInt8Array]:
    """Scale, turn, mirror, shift and perhaps bend: one resampling for image and mask.

    Parameters
    ----------
    sharp
        Keep every pixel as it is: no scale, no turn but by right angles.
    """
    size = settings.size
    low, high = settings.scales
    scale = settings.magnify * float(np.exp(rng.uniform(np.log(low), np.log(high))))
    angle = np.deg2rad(rng.uniform(-settings.turn, settings.turn))
    stretch = float(np.exp(rng.uniform(-0.12, 0.12)))
    if sharp:
        scale, angle, stretch = 1.0, 0.0, 1.0
    if settings.quarter_turns:
        angle += rng.integers(4) * np.pi / 2
    mirror = -1.0 if settings.flips and rng.random() < 0.5 else 1.0
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    # Output (x, y) from the crop's centre to input (x, y) from the input's centre.
    matrix = np.array([[cos * mirror * stretch, -sin / stretch], [sin * mirror, cos]])
    centre = _centre(labels, size / scale, rng, aim)
    half = (size - 1) / 2
    offset = centre - matrix @ np.array([half, half])
    if sharp:
        matrix, offset = np.round(matrix), np.round(offset)
    elif settings.elastic and rng.random() < settings.elastic:
        return _bent(pixels, labels, size, matrix, offset, rng)
    data = (*matrix[0], offset[0] + 0.5, *matrix[1], offset[1] + 0.5)
    # Pillow maps output pixel centres (x + 0.5) and subtracts half a pixel of the input.
    data = (
        data[0], data[1], data[2] - 0.5 * (data[0] + data[1]),
        data[3], data[4], data[5] - 0.5 * (data[3] + data[4]),
    )  # fmt: skip
    kind = Image.Transform.AFFINE
    image = Image.fromarray(pixels).transform((size, size), kind, data, Image.Resampling.BILINEAR)
    mask = Image.fromarray(labels).transform(
        (size, size), kind, data, Image.Resampling.NEAREST, fillcolor=IGNORE
    )
    return np.asarray(image), np.asarray(mask)


def _centre(
    labels: UInt8Array, reach: float, rng: np.random.Generator, aim: int | None
) -> Float32Array:
    """Where to look, input (x, y): near a pixel of the class aimed at, else anywhere inside."""
    rows, columns = labels.shape
    if aim is not None:
        ys, xs = np.nonzero(labels == aim)
        if ys.size:
            hit = int(rng.integers(ys.size))
            wobble = rng.uniform(-0.35, 0.35, 2) * reach
            near = np.array([xs[hit], ys[hit]]) + wobble
            # Keep the crop on the picture, with a little of the outside now and then.
            margin = np.minimum(reach * 0.45, np.array([columns, rows]) / 2)
            return np.clip(near, margin, np.array([columns, rows]) - margin).astype(np.float32)
    spot = []
    for length in (columns, rows):
        inner = max(0.0, length - reach)
        spot.append((length - inner) / 2 + rng.uniform(0, 1) * inner)
    return np.array(spot, np.float32)


def _bent(
    pixels: UInt8Array,
    labels: UInt8Array,
    size: int,
    matrix: np.ndarray,
    offset: np.ndarray,
    rng: np.random.Generator,
) -> tuple[UInt8Array, UInt8Array]:
    """The warp with a smooth random displacement of a few percent of the crop."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    coarse = rng.normal(0, size * rng.uniform(0.01, 0.04), (2, 5, 5)).astype(np.float32)
    smooth = Image.Resampling.BICUBIC
    bend = [np.asarray(Image.fromarray(c).resize((size, size), smooth)) for c in coarse]
    x, y = x + bend[0], y + bend[1]
    source = [
        matrix[1, 0] * x + matrix[1, 1] * y + offset[1],
        matrix[0, 0] * x + matrix[0, 1] * y + offset[0],
    ]
    image = np.stack(
        [
            ndimage.map_coordinates(pixels[..., c], source, order=1, mode="constant")
            for c in range(3)
        ],
        -1,
    )
    mask = ndimage.map_coordinates(labels, source, order=0, mode="constant", cval=IGNORE)
    return image, mask
