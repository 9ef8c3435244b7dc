"""Normalisation: by data set, exact where it can be."""

from __future__ import annotations

import numpy as np
import pytest

from digseg.normalize import (
    Stretch,
    default_bands,
    false_colour_bands,
    sample_windows,
    stretch_of,
    three_channels,
)


def test_a_stretch_maps_its_bounds_to_zero_and_one() -> None:
    pixels = np.array([[[10.0, 15.0, 20.0, 5.0, 30.0, np.nan]]])
    values = Stretch((10.0,), (20.0,)).apply(pixels)
    assert values.dtype == np.float32
    assert values.ravel().tolist() == [0.0, 0.5, 1.0, 0.0, 1.0, 0.0]


def test_a_flat_channel_becomes_zero() -> None:
    assert not Stretch((7.0,), (7.0,)).apply(np.full((1, 2, 2), 7.0)).any()


def test_eight_bit_pictures_keep_their_scale(rng: np.random.Generator) -> None:
    samples = rng.integers(50, 60, (3, 100)).astype(np.uint8)
    stretch = stretch_of(samples, np.ones(100, bool), samples.dtype)
    assert stretch == Stretch((0.0, 0.0, 0.0), (255.0, 255.0, 255.0))


def test_percentiles_leave_out_nodata_and_nan() -> None:
    values = np.arange(101, dtype=np.float32)[None]
    samples = np.concatenate([values, [[np.nan, 1e9]]], axis=1)
    valid = np.ones(103, bool)
    valid[-1] = False
    stretch = stretch_of(samples, valid, samples.dtype, (2.0, 98.0))
    assert stretch == Stretch((2.0,), (98.0,))


def test_nothing_valid_gives_a_usable_stretch() -> None:
    stretch = stretch_of(np.zeros((1, 4)), np.zeros(4, bool), np.dtype("int16"))
    assert stretch == Stretch((0.0,), (1.0,))


@pytest.mark.parametrize("shape", [(10, 10), (5000, 4000), (512, 200_000), (200_000, 512)])
def test_windows_lie_inside_and_spread(shape: tuple[int, int]) -> None:
    windows = list(sample_windows(shape))
    for top, bottom, left, right in windows:
        assert 0 <= top < bottom <= shape[0]
        assert 0 <= left < right <= shape[1]
    assert sum((b - t) * (r - c) for t, b, c, r in windows) <= 16 * 256 * 256
    if max(shape) > 4096:
        ends = [bottom if shape[0] > shape[1] else right for _, bottom, _, right in windows]
        assert max(ends) > 0.8 * max(shape)


@pytest.mark.parametrize(
    ("names", "colors", "bands"),
    [
        (["blue", "green", "red", "nir"], (), (2, 1, 0)),
        (["B2", "B3", "B4", "B8"], (), (2, 1, 0)),
        (["a", "b", "c"], ("blue", "green", "red"), (2, 1, 0)),
        (["band 1", "band 2", "band 3", "band 4"], (), (0, 1, 2)),
        (["band 1", "band 2"], (), (0,)),
        (["grey"], ("gray",), (0,)),
    ],
)
def test_bands_are_chosen_by_meaning(
    names: list[str], colors: tuple[str, ...], bands: tuple[int, ...]
) -> None:
    assert default_bands(names, colors) == bands


@pytest.mark.parametrize(
    ("names", "colors", "bands"),
    [
        (["blue", "green", "red", "nir"], (), (3, 2, 1)),
        (["B2", "B3", "B4", "B5", "B8"], (), (4, 2, 1)),
        (["Red", "Green", "Blue", "Near_Infrared"], (), (3, 0, 1)),
        (["1", "2", "3", "4"], ("red", "green", "blue", "nir"), (3, 0, 1)),
        (["nir", "red", "green"], (), None),  # without blue it is shown as it is
        (["a", "b", "c", "nir"], (), None),
        (["blue", "green", "red", "swir"], (), None),
        (["band 1", "band 2", "band 3", "band 4"], (), None),
        (["nir"], (), None),
    ],
)
def test_false_colour_is_near_infrared_red_and_green(
    names: list[str], colors: tuple[str, ...], bands: tuple[int, ...] | None
) -> None:
    assert false_colour_bands(names, colors) == bands


def test_one_channel_becomes_three() -> None:
    grey = np.arange(4).reshape(1, 2, 2)
    assert np.array_equal(three_channels(grey), np.repeat(grey, 3, axis=0))
