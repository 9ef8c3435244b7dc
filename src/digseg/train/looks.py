"""How a picture looks, apart from its shapes: levels, tones, light, noise, or drawn from labels.

What is small is soon learned by heart. Every picture therefore comes in other levels each time,
some of them those of other pictures of its kind (as in Nam et al., arXiv 1910.11645, on style),
and a scan under another tone curve (Zhou et al., Models Genesis, arXiv 1908.06912).
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.filters import threshold_otsu

from digseg.train.lungs import lungs_of
from digseg.train.pack import IGNORE
from digseg.types import BoolArray, Float32Array, UInt8Array

#: Control points of a random tone curve, its two ends included.
_KNOTS = 6
#: Brightest that a pixel beyond the picture may be, after noise and changes of light.
_BLACK = 0.08
#: How far bright vessels are followed beyond their labels, pixels.
_VESSELS = 12


def synthesise(pixels: UInt8Array, labels: UInt8Array, rng: np.random.Generator) -> UInt8Array:
    """An image drawn from the label map: one random grey for each structure (SynthSeg).

    What is unlabelled is cut into its own shades first, so that the surroundings keep a shape.
    """
    grey = ndimage.gaussian_filter(pixels[..., 1].astype(np.float32), 1.0)
    shades = np.digitize(grey, np.quantile(grey, (0.3, 0.5, 0.7, 0.9)))
    structure = np.where((labels > 0) & (labels < IGNORE), labels.astype(int), 256 + shades)
    table = rng.uniform(0, 255, 262).astype(np.float32)
    if rng.random() < 0.5:  # air and surroundings as they are, structures redrawn
        found = np.unique(shades)
        table[256 + found] = ndimage.mean(grey, shades, found)
    image = table[structure] + rng.normal(0, rng.uniform(2, 15), labels.shape)
    image = ndimage.gaussian_filter(image, rng.uniform(0.3, 1.2))
    drawn = np.clip(image, 0, 255).astype(np.uint8)
    return np.repeat(drawn[..., None], 3, -1)


def as_mr(pixels: UInt8Array, labels: UInt8Array, rng: np.random.Generator) -> UInt8Array:
    """A CT slice in greys that an MR scan might have: the shapes and textures stay.

    No rising curve leads from one to the other: in most MR sequences fat is bright, cortical bone
    dark, and organs that a CT shows alike differ. The curve is made for a window of -160 to 240 HU.

    Parameters
    ----------
    pixels, labels
        ``uint8 [H, W, 3]`` and ``uint8 [H, W]``: most structures get a grey of their own.
    """
    air, soft = rng.uniform(0, 12), rng.uniform(15, 150)
    bright = rng.random() < 0.7  # else the fat is suppressed
    fat = rng.uniform(max(soft + 40, 120), 255) if bright else rng.uniform(5, max(soft, 30))
    contrast = rng.uniform(-0.5, 0.5) * soft
    marrow, cortex = rng.uniform(0.3, 1.0) * fat, rng.uniform(0.0, 0.8) * soft
    # Air, a mixed pixel, fat, fat and muscle, water, blood with contrast, spongy and dense bone.
    known = (0, 12, 38, 70, 100, 145, 180, 255)
    greys = (air, (air + fat) / 2, fat, (fat + soft) / 2, soft - contrast, soft + contrast)
    curve = np.interp(np.arange(256), known, (*greys, marrow, cortex)).astype(np.float32)
    shifts = np.where(rng.random(256) < 0.6, rng.uniform(-1.0, 0.7, 256) * soft, 0.0)
    shifts[[0, IGNORE]] = 0.0
    own = ndimage.gaussian_filter(shifts.astype(np.float32)[labels], 0.8)
    coarse = np.exp(rng.normal(0, rng.uniform(0.05, 0.3), (4, 4))).astype(np.float32)
    rows, columns = labels.shape
    coil = Image.fromarray(coarse).resize((columns, rows), Image.Resampling.BICUBIC)
    drawn = np.maximum(curve[pixels] + own[..., None], 0) * np.asarray(coil)[..., None]
    # As in use, where a volume's brightest voxels are white; a slice may not hold them.
    white = 255 * rng.uniform(0.7, 1.1) / max(float(np.percentile(drawn, 99.5)), 1.0)
    shown: UInt8Array = np.clip(drawn * np.float32(white) + 0.5, 0, 255).astype(np.uint8)
    return shown


def in_wider_window(pixels: UInt8Array, rng: np.random.Generator) -> UInt8Array:
    """A CT slice as a window for lungs, or for everything, would show it.

    What the narrow window cut is made up: lungs get a grey and a grain, bone a bright core.

    Parameters
    ----------
    pixels
        ``uint8 [H, W, 3]``, taken for a window of -160 to 240 HU.
    """
    grey = pixels[..., 1]
    lungs = lungs_of(grey, sure=False)
    hounsfield = pixels * np.float32(400 / 255) - 160
    if lungs is not None:
        grain = ndimage.gaussian_filter(rng.normal(0, 1, grey.shape), rng.uniform(0.5, 1.5))
        grain *= rng.uniform(10, 60) / max(float(grain.std()), 1e-6)
        lung = rng.uniform(-900, -780) + grain.astype(np.float32)
        hounsfield = np.where((lungs & (grey < 8))[..., None], lung[..., None], hounsfield)
    air = ndimage.gaussian_filter(grey.astype(np.float32), 1.0) < 4
    parts, _ = ndimage.label(ndimage.binary_opening(air, iterations=2))
    around = np.isin(parts, np.setdiff1d([parts[0], parts[-1]], 0))
    if lungs is not None:
        around &= ~lungs
    hounsfield = np.where(around[..., None], np.float32(-1000), hounsfield)
    core = ndimage.distance_transform_edt(grey > 250).astype(np.float32)
    hounsfield += (np.minimum(core, 4) * np.float32(rng.uniform(40, 200)))[..., None]
    hounsfield = ndimage.gaussian_filter(hounsfield, (0.6, 0.6, 0))  # no edge of the window shows
    if rng.random() < 0.4:  # for lungs
        low, high = rng.uniform(-1350, -1000), rng.uniform(150, 400)
    else:
        low, high = rng.uniform(-1100, -300), rng.uniform(300, 1500)
    shown = (hounsfield - np.float32(low)) * np.float32(255 / (high - low))
    wide: UInt8Array = np.clip(shown + 0.5, 0, 255).astype(np.uint8)
    return wide


def without_contrast(pixels: UInt8Array, blood: BoolArray, rng: np.random.Generator) -> UInt8Array:
    """A CT slice whose blood is as grey as muscle, as where no contrast agent was given.

    Parameters
    ----------
    pixels
        ``uint8 [H, W, 3]``, in any window that tells blood from the tissue around.
    blood
        ``bool [H, W]``: what is labelled as full of blood. Bright pixels that it is connected with
        are taken for vessels, a little way from it.

    Returns
    -------
    ``uint8 [H, W, 3]``; the pixels themselves where there is no blood or no contrast.
    """
    if not blood.any():
        return pixels
    smooth = ndimage.gaussian_filter(pixels.astype(np.float32), (1.2, 1.2, 0))
    middle = smooth[..., 1]
    level = float(np.median(middle[blood]))
    darker = middle[~blood & (middle < 0.85 * level)]
    if not darker.size or darker.min() == darker.max():
        return pixels
    soft = darker[darker >= threshold_otsu(darker)]  # type: ignore[no-untyped-call]
    if (np.abs(middle[~blood] - level) < 0.15 * level).sum() > soft.size:
        return pixels  # blood is as grey as most of the body already
    tissue = float(np.median(soft))
    vessels = middle > tissue + 0.4 * (level - tissue)
    reached = ndimage.binary_dilation(blood, iterations=_VESSELS, mask=vessels) | blood
    near = ndimage.binary_dilation(reached, iterations=3)
    plain = np.float32(tissue * rng.uniform(0.92, 1.12))
    left = np.float32(rng.uniform(0, 0.15))
    grain = pixels - smooth
    most = 3 * np.float32(np.median(np.abs(grain[blood])))  # above it are edges, no noise
    grey = np.minimum(pixels, plain + left * (smooth - plain) + np.clip(grain, -most, most))
    shown: UInt8Array = np.clip(
        np.where(near[..., None] & (smooth > plain), grey, pixels) + 0.5, 0, 255
    ).astype(np.uint8)
    return shown


def restyled(image: UInt8Array, like: UInt8Array, rng: np.random.Generator) -> UInt8Array:
    """The image, some of the way to the mean and spread of another one, channel by channel.

    Parameters
    ----------
    image
        ``[H, W, 3]``.
    like
        ``[h, w, C]``: with less than three channels its first stands for all.
    """
    other = like[::4, ::4, :3].astype(np.float32)
    if other.shape[-1] < 3:
        other = np.repeat(other[..., :1], 3, -1)
    elif _is_grey(image):  # and stays so
        other = np.repeat(other.mean(-1, keepdims=True), 3, -1)
    given = image.astype(np.float32)
    share = np.float32(rng.uniform(0.2, 1.0))
    mean, spread = given.mean((0, 1)), given.std((0, 1)) + 4
    gain = 1 + share * ((other.std((0, 1)) + 4) / spread - 1)  # [3]
    level = mean + share * (other.mean((0, 1)) - mean)  # [3]
    moved = (given - mean) * np.clip(gain, 0.4, 2.5) + level
    restyled: UInt8Array = np.clip(moved + 0.5, 0, 255).astype(np.uint8)
    return restyled


def toned(image: UInt8Array, rng: np.random.Generator) -> UInt8Array:
    """The image under a random rising tone curve, the same for all channels."""
    knots = np.linspace(0, 255, _KNOTS)
    steps = rng.dirichlet(np.full(_KNOTS - 1, 3.0))
    low, high = rng.uniform(0, 25), rng.uniform(230, 255)
    curve = low + (high - low) * np.concatenate([[0.0], np.cumsum(steps)])
    table: UInt8Array = np.round(np.interp(np.arange(256), knots, curve)).astype(np.uint8)
    toned: UInt8Array = np.take(table, image)
    return toned


def laid_over(
    image: Float32Array,
    labels: UInt8Array,
    other: tuple[Float32Array, UInt8Array],
    rng: np.random.Generator,
) -> tuple[Float32Array, UInt8Array]:
    """A rectangle of another crop, labels and all, over this one (Yun et al., arXiv 1905.04899).

    Parameters
    ----------
    image, labels
        ``[3, H, W]`` and ``[H, W]``.
    other
        An image and labels of the same sizes.
    """
    window = []
    for length in labels.shape:
        side = int(length * rng.uniform(0.3, 0.75))
        start = int(rng.integers(length - side + 1))
        window.append(slice(start, start + side))
    image, labels = image.copy(), labels.copy()
    image[:, window[0], window[1]] = other[0][:, window[0], window[1]]
    labels[window[0], window[1]] = other[1][window[0], window[1]]
    return image, labels


def within(image: Float32Array, labels: UInt8Array) -> BoolArray:
    """``bool [H, W]``: what of a crop is picture. Beyond it a crop is unlabelled, and black.

    Black under changed light is as dark as the darkest there is, so unlabelled deep shadows may
    be taken for it.
    """
    level = ndimage.gaussian_filter(image.max(axis=0), 1.0)
    darkest = max(_BLACK, float(np.quantile(level, 0.01)) + _BLACK / 2)
    bright = ndimage.binary_erosion(level > darkest, iterations=3, border_value=1)
    inside: BoolArray = (labels != IGNORE) | bright  # eroded, since smoothing spreads the picture
    return inside


def lit(image: UInt8Array, strength: float, rng: np.random.Generator) -> Float32Array:
    """Bytes ``[H, W, 3]`` to floats ``[3, H, W]`` with changed light, colour, blur and noise."""
    x = np.moveaxis(image, -1, 0).astype(np.float32) / np.float32(255)
    if strength <= 0:
        return x
    if rng.random() < 0.5:
        x = np.power(x, np.float32(np.exp(rng.uniform(-0.4, 0.4) * strength)))
    if rng.random() < 0.7:
        gain = np.float32(np.exp(rng.uniform(-0.3, 0.3) * strength))
        shift = np.float32(rng.uniform(-0.12, 0.12) * strength)
        mean = x.mean()
        x = (x - mean) * gain + mean + shift
    if rng.random() < 0.4 and not _is_grey(image):
        gains = np.exp(rng.uniform(-0.15, 0.15, (3, 1, 1)) * strength)
        x = x * gains.astype(np.float32)
    if rng.random() < 0.1 * strength:
        x = np.broadcast_to(x.mean(0, keepdims=True), x.shape)
    if rng.random() < 0.15:
        sigma = rng.uniform(0.4, 1.2)
        x = np.stack([ndimage.gaussian_filter(c, sigma) for c in x])
    if rng.random() < 0.25:
        x = x + rng.normal(0, rng.uniform(0.01, 0.05) * strength, x.shape).astype(np.float32)
    return np.ascontiguousarray(np.clip(x, 0, 1), dtype=np.float32)


def _is_grey(image: UInt8Array) -> bool:
    """Whether all three channels are the same."""
    return bool((image[::8, ::8] == image[::8, ::8, :1]).all())
