"""Things cut out of one picture and set into another, at another size.

After Ghiasi et al., arXiv 2012.07177, with larger changes of size: where most weeds are
smaller than the crop, a model soon calls every large plant a crop.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

from digseg.train.pack import IGNORE
from digseg.types import BoolArray, Float32Array, UInt8Array

#: Smallest thing that is taken, pixels.
_SMALLEST = 25
#: Largest side of a thing when it is set in, as a share of the picture's.
_LARGEST = 0.6
#: How many times as large a thing may become.
_GROWTH = (0.6, 4.0)


def transplanted(
    image: Float32Array,
    labels: UInt8Array,
    donor: tuple[Float32Array, UInt8Array],
    rng: np.random.Generator,
    count: int = 3,
) -> tuple[Float32Array, UInt8Array]:
    """A picture with up to `count` things of another one set into it.

    Parameters
    ----------
    image, labels
        ``float32 [3, H, W]`` in [0, 1] and ``uint8 [H, W]``.
    donor
        Another picture and its labels. Things are the connected areas of one class that lie wholly
        inside it.

    Returns
    -------
    Both, changed; those given stay as they are.
    """
    things = _things(donor[1])
    if not things:
        return image, labels
    image, labels = image.copy(), labels.copy()
    for _ in range(int(rng.integers(1, count + 1))):
        value, window, shape = things[int(rng.integers(len(things)))]
        piece, cover = _resized(donor[0][:, window[0], window[1]], shape, labels.shape, rng)
        rows, columns = cover.shape
        y = int(rng.integers(labels.shape[0] - rows + 1))
        x = int(rng.integers(labels.shape[1] - columns + 1))
        here = (slice(y, y + rows), slice(x, x + columns))
        # Beyond the picture nothing is set in.
        cover = cover * (labels[here] != IGNORE)
        ground = image[:, here[0], here[1]]
        image[:, here[0], here[1]] = ground + cover * (piece - ground)
        labels[here] = np.where(cover >= 0.5, np.uint8(value), labels[here])
    return image, labels


def _things(labels: UInt8Array) -> list[tuple[int, tuple[slice, slice], BoolArray]]:
    """Class id, window and shape of each connected area that doesn't touch the rim or a hole."""
    found = []
    for value in np.unique(labels):
        if value in (0, IGNORE):
            continue
        parts, _ = ndimage.label(labels == value)
        for index, window in enumerate(ndimage.find_objects(parts), 1):
            shape = parts[window] == index
            inside = all(
                side.start > 0 and side.stop < length
                for side, length in zip(window, labels.shape, strict=True)
            )
            if inside and shape.sum() >= _SMALLEST:
                found.append((int(value), window, shape))
    return found


def _resized(
    piece: Float32Array, shape: BoolArray, room: tuple[int, ...], rng: np.random.Generator
) -> tuple[Float32Array, Float32Array]:
    """A thing larger or smaller, perhaps mirrored, with how much of each pixel it covers."""
    low, high = np.log(_GROWTH)
    fits = min(_LARGEST * free / side for free, side in zip(room, shape.shape, strict=True))
    factor = min(float(np.exp(rng.uniform(low, high))), fits)
    size = tuple(max(1, round(side * factor)) for side in shape.shape[::-1])
    smooth = Image.Resampling.BICUBIC
    layers = [np.asarray(Image.fromarray(layer).resize(size, smooth)) for layer in piece]
    soft = Image.fromarray(shape.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    cover = np.clip(np.asarray(soft) * 1.6 - 0.3, 0, 1)  # steeper again, as an outline is
    flip = slice(None, None, -1 if rng.random() < 0.5 else 1)
    image = np.clip(np.stack(layers), 0, 1)[..., flip]
    return image.astype(np.float32), cover[:, flip].astype(np.float32)
