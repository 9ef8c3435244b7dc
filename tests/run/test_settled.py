"""What settings leave to the model stands in the recipe as it was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import digseg
from digseg.grid import Grid
from digseg.prompts import Prompt
from digseg.run.settled import recommended_bands
from digseg.types import Float32Array

UTM, DEGREES = "EPSG:32633", "EPSG:4326"


@dataclass
class FirstChannel:
    """Answers with the first of the three channels that it is shown."""

    recommended: dict[str, Any] = field(default_factory=dict)
    identity: str = "first channel"
    multiple: int = 1

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        return np.repeat(tiles[:, :1], len(prompts), axis=1)


def scene(pixel: float = 10.0, crs: str | None = UTM, names: str = "blue green red nir") -> Any:
    """Four bands of 8-bit, one of them bright in its own quarter each."""
    pixels = np.zeros((4, 32, 32), np.uint8)
    for band, (top, left) in enumerate(((0, 0), (0, 16), (16, 0), (16, 16))):
        pixels[band, top : top + 16, left : left + 16] = 255
    unit = "degree" if crs == DEGREES else "metre"
    north = 50.0 if crs == DEGREES else 5_500_000.0
    place = (pixel, 0.0, 15.0 if crs == DEGREES else 500_000.0, 0.0, -pixel, north)
    grid = Grid.from_transform((32, 32), place, crs=crs, unit=unit)
    return digseg.Raster(pixels, grid, band_names=tuple(names.split()))


def test_coarse_pixels_are_seen_in_near_infrared_where_the_model_recommends_it() -> None:
    model = FirstChannel({"near_infrared": 5.0})
    with digseg.segment(scene(), ["crops"], model=model) as result:
        labels = np.asarray(result.labels[:, :])
        assert labels[16:, 16:].all(), "the near infrared band is bright there"
        assert labels.sum() == 256
        assert result.recipe["settings"]["bands"] == [4, 3, 2]
        assert "--bands=4,3,2" in result.recipe["command"]


@pytest.mark.parametrize(
    ("changed", "hints", "bands"),
    [
        ({}, {"near_infrared": 5.0}, (4, 3, 2)),
        ({}, {}, ()),
        ({"pixel": 0.5}, {"near_infrared": 5.0}, ()),
        ({"pixel": 1e-4, "crs": DEGREES}, {"near_infrared": 5.0}, (4, 3, 2)),
        ({"pixel": 1e-5, "crs": DEGREES}, {"near_infrared": 5.0}, ()),
        ({"crs": None}, {"near_infrared": 5.0}, ()),
        ({"names": "blue green red swir"}, {"near_infrared": 5.0}, ()),
        ({"names": "B2 B3 B4 B8"}, {"near_infrared": 5.0}, (4, 3, 2)),
    ],
    ids=str,
)
def test_which_bands_are_recommended(
    changed: dict[str, Any], hints: dict[str, float], bands: tuple[int, ...]
) -> None:
    raster = scene(**changed)
    assert recommended_bands(raster, raster.band_names, hints) == bands


def test_bands_that_were_asked_for_are_kept() -> None:
    model = FirstChannel({"near_infrared": 5.0})
    with digseg.segment(scene(), ["crops"], model=model, bands=(1, 2, 3)) as result:
        assert np.asarray(result.labels[:16, :16]).all()
        assert result.recipe["settings"]["bands"] == [1, 2, 3]


def test_names_that_a_data_set_tells_count_in_place_of_the_files() -> None:
    raster = scene(names="1 2 3 4")
    hints = {"near_infrared": 5.0}
    assert recommended_bands(raster, raster.band_names, hints) == ()
    assert recommended_bands(raster, ("nir", "red", "green", "blue"), hints) == (1, 2, 3)
