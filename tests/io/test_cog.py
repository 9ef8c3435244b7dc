"""Tiles taken in any order become a valid COG, classic or big, with exact modes as overviews."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile

from digseg.grid import Grid
from digseg.io import _cog_layout, cog
from digseg.io._cog_tiles import Tiles, mode_of_four
from digseg.prompts import PromptSet
from digseg.raster import ClassTable, Mask
from digseg.types import AnyArray

CLASSES = ClassTable.of(PromptSet.parse(["water", "road", "tree"]))
SHAPE = (1300, 2100)


def some_labels(shape: tuple[int, int] = SHAPE, nodata: int = 255) -> AnyArray:
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 4, (shape[0] // 7 + 1, shape[1] // 7 + 1)).astype(np.uint8)
    labels = coarse.repeat(7, 0).repeat(7, 1)[: shape[0], : shape[1]].copy()
    labels[:700, :600] = nodata
    labels[rng.random(shape) < 0.05] = nodata
    return labels


def mask_of(labels: AnyArray) -> Mask:
    place = (0.5, 0.0, 5e5, 0.0, -0.5, 5e6)
    return Mask(labels, Grid.from_transform(labels.shape, place, crs="EPSG:32633"), CLASSES, 255)


def expected_mode(labels: AnyArray, nodata: int) -> AnyArray:
    height, width = (-(-side // 2) for side in labels.shape)
    found = np.empty((height, width), labels.dtype)
    for y in range(height):
        for x in range(width):
            four = labels[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].ravel().tolist()
            votes = Counter(value for value in four if value != nodata)
            found[y, x] = max(votes, key=votes.__getitem__) if votes else nodata
    return found


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (37, 52), (64, 31)])
def test_overviews_are_the_mode_without_nodata(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(shape[0])
    labels = rng.integers(0, 4, shape).astype(np.uint16)
    labels[labels == 3] = 65535
    np.testing.assert_array_equal(mode_of_four(labels, 65535), expected_mode(labels, 65535))


@pytest.mark.parametrize("window", [512, 1024, 2048])
def test_the_order_of_windows_changes_no_byte(tmp_path: Path, window: int) -> None:
    mask = mask_of(some_labels())
    plain, mixed = tmp_path / "plain.tif", tmp_path / "mixed.tif"
    cog.write_cog(mask, plain, source=None)
    tiles = cog.tiles_for(mask, tmp_path / "scratch")
    windows = list(cog.chunks(SHAPE, window))
    np.random.default_rng(1).shuffle(windows)
    for top, bottom, left, right in windows:
        tiles.put(top, left, mask.labels[top:bottom, left:right])
    cog.write_cog(mask, mixed, source=None, tiles=tiles)
    assert plain.read_bytes() == mixed.read_bytes()
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize("big", [False, True])
def test_independent_readers_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, big: bool
) -> None:
    from rio_cogeo import cog_validate

    if big:
        monkeypatch.setattr(_cog_layout, "_CLASSIC", 1000)
    labels, path = some_labels(), tmp_path / "labels.tif"
    cog.write_cog(mask_of(labels), path, source=None)
    valid, errors, warnings = cog_validate(path, strict=True)
    assert valid, (errors, warnings)
    with tifffile.TiffFile(path) as found:
        assert found.is_bigtiff == big
        assert len(found.pages) == 4
        np.testing.assert_array_equal(found.pages[0].asarray(), labels)
        np.testing.assert_array_equal(found.pages[1].asarray(), mode_of_four(labels, 255))
    with rasterio.open(path) as found:
        assert found.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert found.nodata == 255
        assert found.overviews(1) == [2, 4, 8]
        np.testing.assert_array_equal(found.read(1), labels)
        values, counts = np.unique(labels[labels != 255], return_counts=True)
        mean = (values * counts).sum() / counts.sum()
        assert float(found.tags(1)["STATISTICS_MEAN"]) == pytest.approx(mean)
    with rasterio.open(path, overview_level=2) as coarse:
        below = mode_of_four(mode_of_four(labels, 255), 255)
        np.testing.assert_array_equal(coarse.read(1), mode_of_four(below, 255))


def test_a_tile_that_never_came_is_not_written_as_nothing(tmp_path: Path) -> None:
    tiles = Tiles(SHAPE, np.uint8, 512, None, tmp_path / "scratch")
    tiles.put(0, 0, np.zeros((512, 512), np.uint8))
    with pytest.raises(ValueError, match="was never written"):
        tiles.complete()
    tiles.close()
