"""A part of an image keeps its pixels' places."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from digseg.errors import UsageError
from digseg.grid import Grid
from digseg.prompts import PromptSet
from digseg.raster import Raster, Volume
from digseg.run.job import Job, parse_region
from digseg.run.region import crop
from digseg.run.sources import raster_source
from digseg.settings import SegmentSettings
from digseg.types import AnyArray


def test_part_of_a_raster_has_its_pixels_at_the_same_place(
    asymmetric: Callable[..., AnyArray],
) -> None:
    grid = Grid.from_transform((7, 9), (10.0, 1.0, 500.0, -2.0, -10.0, 900.0))
    raster = Raster(asymmetric(2, 7, 9), grid, valid=asymmetric(7, 9))
    part = crop(raster, ((2, 6), (3, 8)))
    assert isinstance(part, Raster)
    np.testing.assert_array_equal(part.data[:], raster.data[:, 2:6, 3:8])
    assert part.valid is not None
    np.testing.assert_array_equal(part.valid[1:3, ::2], raster.valid[3:5, 3:8:2])  # type: ignore[index]
    np.testing.assert_allclose(part.grid.world((0, 0)), grid.world((2, 3)))
    np.testing.assert_allclose(part.grid.world((3, 4)), grid.world((5, 7)))


def test_part_of_a_volume_has_its_voxels_at_the_same_place(
    asymmetric: Callable[..., AnyArray],
) -> None:
    grid = Grid.of((4, 5, 6), np.diag([-1.0, 2.0, 3.0, 1.0]), space="patient")
    volume = Volume(asymmetric(4, 5, 6), grid, modality="CT")
    part = crop(volume, ((1, 3), (0, 5), (2, 4)))
    assert isinstance(part, Volume)
    assert part.modality == "CT"
    np.testing.assert_array_equal(part.data[:], volume.data[1:3, :, 2:4])
    np.testing.assert_allclose(part.grid.world((0, 0, 0)), grid.world((1, 0, 2)))


def test_a_part_is_stretched_as_the_whole_is(asymmetric: Callable[..., AnyArray]) -> None:
    raster = Raster(asymmetric(3, 40, 50), Grid.of((40, 50)))
    part = crop(raster, ((30, 40), (20, 45)))
    assert isinstance(part, Raster)
    whole_pixels, _ = raster_source(raster, SegmentSettings()).read(0, (30, 40, 20, 45))
    part_pixels, _ = raster_source(part, SegmentSettings()).read(0, (0, 10, 0, 25))
    np.testing.assert_array_equal(part_pixels, whole_pixels)


@pytest.mark.parametrize("region", [((0, 8), (0, 9)), ((0, 7),), ((3, 3), (0, 9))])
def test_impossible_regions_are_refused(
    region: tuple[tuple[int, int], ...], asymmetric: Callable[..., AnyArray]
) -> None:
    raster = Raster(asymmetric(1, 7, 9), Grid.of((7, 9)))
    with pytest.raises(UsageError, match="region"):
        crop(raster, region)


def test_region_survives_recipe_and_command_line() -> None:
    job = Job("a.tif", PromptSet.parse("water"), region=((1, 20), (3, 40)))
    assert Job.from_recipe(job.recipe()) == job
    assert "--region 1:20,3:40" in job.command_line()
    assert parse_region("1:20,3:40") == job.region
    assert Job.from_recipe(Job("a", PromptSet.parse("water")).recipe()).region is None


@pytest.mark.parametrize("text", ["", "1:2", "5:2,1:3", "a:b,1:2", "1:2,3:4,5:6,7:8"])
def test_what_is_no_region_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no region"):
        parse_region(text)


def test_recipes_of_older_programs_have_no_region(tmp_path: Path) -> None:
    recipe = Job("a.tif", PromptSet.parse("water")).recipe()
    del recipe["region"]
    assert Job.from_recipe(recipe).region is None
