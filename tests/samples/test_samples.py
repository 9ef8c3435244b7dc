"""The pictures that ship are small, real and readable by other programs."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import rasterio

from digseg import samples
from digseg.prompts import PromptSet


def test_scene_is_a_georeferenced_picture_with_named_bands() -> None:
    with rasterio.open(samples.scene()) as scene:
        assert scene.crs.to_epsg() == 32718
        assert scene.res == (10.0, 10.0)
        assert scene.descriptions == ("red", "green", "blue", "nir")
        assert np.ptp(scene.read(1)) > 1000


def test_volume_is_a_ct_in_hounsfield_units() -> None:
    image = nibabel.load(samples.volume())
    assert image.shape == (114, 84, 50)
    np.testing.assert_array_equal(nibabel.affines.voxel_sizes(image.affine), (3, 3, 3))
    pixels = np.asarray(image.dataobj)
    assert pixels.min() == -1000
    # A body is mostly water, fat and air: its soft tissue lies within 80 HU of water.
    assert abs(np.median(pixels[pixels > -200])) < 80


@pytest.mark.parametrize("name", ["scene", "volume"])
def test_prompts_are_complete(name: str) -> None:
    assert len(PromptSet.parse(samples.prompts_for(name))) >= 4


def test_both_are_small_enough_to_ship() -> None:
    assert samples.scene().stat().st_size < 400_000
    assert samples.volume().stat().st_size < 400_000
