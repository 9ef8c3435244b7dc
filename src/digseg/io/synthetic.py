"""Made-up scenes for benchmarks: a deflate GeoTIFF of any size, written window by window."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from digseg.types import UInt8Array, Window

_BLOCK = 512
_PERIODS = ((97.0, 131.0), (61.0, 43.0), (23.0, 29.0))


def write_scene(
    path: str | Path,
    shape: tuple[int, int],
    *,
    share: float = 1.0,
    in_one_piece: bool = False,
    seed: int = 0,
) -> Path:
    """Write an RGB ``uint8`` GeoTIFF (tiled, deflate) of waves and noise.

    Parameters
    ----------
    shape
        Rows and columns.
    share
        Share of the scene that holds data: 512-pixel blocks here and there. Below 1 the file is
        sparse: the others take no room on the disk and read as nodata (0).
    in_one_piece
        That share is the left of the scene, to the pixel, and the rest one piece without data.
    """
    import rasterio
    from affine import Affine
    from rasterio.windows import Window as Block

    rows, columns = shape
    with (
        rasterio.Env(GDAL_CACHEMAX=64),
        rasterio.open(
            path,
            "w",
            driver="GTiff",
            width=columns,
            height=rows,
            count=3,
            dtype="uint8",
            crs="EPSG:32633",
            transform=Affine(0.5, 0.0, 500_000.0, 0.0, -0.5, 5_500_000.0),
            tiled=True,
            blockxsize=_BLOCK,
            blockysize=_BLOCK,
            compress="deflate",
            zlevel=1,
            photometric="RGB",
            bigtiff="IF_SAFER",
            sparse_ok=True,
            nodata=0 if share < 1 else None,
        ) as file,
    ):
        rng = np.random.default_rng(seed)
        scattered = share < 1 and not in_one_piece
        edge = round(share * columns) if in_one_piece else columns
        for top in range(0, rows, _BLOCK):
            for left in range(0, columns, _BLOCK):
                if left >= edge or (scattered and rng.random() >= share):
                    continue
                height, width = min(_BLOCK, rows - top), min(_BLOCK, columns - left)
                pixels = waves((top, top + height, left, left + width), rng)
                pixels[:, :, max(0, edge - left) :] = 0
                file.write(pixels, window=Block(left, top, width, height))
    return Path(path)


def waves(window: Window, rng: np.random.Generator) -> UInt8Array:
    """Pixels ``uint8 [3, h, w]`` in 16 .. 239 that differ everywhere; never nodata."""
    top, bottom, left, right = window
    y = np.arange(top, bottom, dtype=np.float32)[:, None]
    x = np.arange(left, right, dtype=np.float32)[None, :]
    noise = rng.integers(-8, 8, size=(bottom - top, right - left), dtype=np.int8)
    bands = []
    for down, across in _PERIODS:
        wave = np.sin(y * (2 * math.pi / down)) + np.cos(x * (2 * math.pi / across))
        bands.append((128 + 52 * wave + noise).astype(np.uint8))
    return np.stack(bands)
