"""Arrays in memory become rasters and volumes; what makes no sense is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray
from PIL import Image

from digseg.errors import UsageError
from digseg.raster import Raster, Volume
from digseg.run.arrays import to_image


@pytest.mark.parametrize(
    ("shape", "kind", "expected"),
    [
        ((40, 50), "auto", (Raster, (1, 40, 50))),
        ((3, 40, 50), "auto", (Raster, (3, 40, 50))),
        ((40, 50, 3), "auto", (Raster, (3, 40, 50))),
        ((40, 50, 4), "auto", (Raster, (4, 40, 50))),
        ((30, 40, 50), "auto", (Volume, (30, 40, 50))),
        ((5, 40, 50), "volume", (Volume, (5, 40, 50))),
        ((30, 40, 50), "raster", (Raster, (30, 40, 50))),
    ],
)
def test_axes(shape: tuple[int, ...], kind: str, expected: tuple[type, tuple[int, ...]]) -> None:
    image = to_image(np.zeros(shape, np.uint8), kind=kind)  # type: ignore[arg-type]
    assert (type(image), tuple(image.data.shape)) == expected


@pytest.mark.parametrize(
    "image",
    [np.zeros(5), np.zeros((2, 2, 2, 2)), np.zeros((4, 4), complex), b"text", [[1, 2]]],
)
def test_nonsense_is_refused(image: object) -> None:
    with pytest.raises(UsageError):
        to_image(image)


@pytest.mark.parametrize("mode", ["L", "1", "P", "I;16", "RGB", "RGBA", "CMYK"])
def test_pictures_of_pillow(mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).convert("L" if mode == "I;16" else mode).convert(mode)
    image = to_image(picture)
    assert isinstance(image, Raster)
    colours = "L" if mode == "1" else "RGB"
    seen = np.asarray(picture if mode in ("L", "I;16", "RGBA") else picture.convert(colours))
    expected = seen[None] if seen.ndim == 2 else np.moveaxis(seen, -1, 0)
    np.testing.assert_array_equal(image.data, expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64, torch.bfloat16])
def test_tensors_of_torch(dtype: torch.dtype) -> None:
    given = torch.arange(3 * 40 * 50).reshape(3, 40, 50).remainder(200).to(dtype)
    image = to_image(given.clone().requires_grad_(dtype.is_floating_point))
    assert isinstance(image, Raster)
    np.testing.assert_array_equal(image.data, given.float().numpy())


def test_dimensions_are_read_by_name() -> None:
    array = xarray.DataArray(np.zeros((40, 50, 3)), dims=("lat", "lon", "band"))
    image = to_image(array)
    assert isinstance(image, Raster)
    assert image.data.shape == (3, 40, 50)
    volume = to_image(xarray.DataArray(np.zeros((5, 40, 50)), dims=("z", "y", "x")))
    assert isinstance(volume, Volume)


def test_a_spatial_ref_coordinate_gives_the_crs() -> None:
    array = xarray.DataArray(
        np.zeros((2, 3)), dims=("y", "x"), coords={"y": [9.0, 7.0], "x": [0.0, 2.0, 4.0]}
    ).assign_coords(spatial_ref=xarray.DataArray(0, attrs={"crs_wkt": "EPSG:4326"}))
    grid = to_image(array).grid
    assert grid.crs == "EPSG:4326"
    assert grid.transform == (2.0, 0.0, -1.0, 0.0, -2.0, 10.0)


def test_coordinates_place_a_volume() -> None:
    steps = {"z": 10 + 3.0 * np.arange(5), "y": -0.5 * np.arange(40), "x": 0.5 * np.arange(50)}
    array = xarray.DataArray(np.zeros((5, 40, 50)), dims=("z", "y", "x"), coords=steps)
    grid = to_image(array).grid
    assert grid.spacing == (3.0, 0.5, 0.5)
    assert tuple(grid.world((4, 39, 49))) == (24.5, -19.5, 22.0)


def test_a_rotated_raster_is_placed_by_its_geotransform() -> None:
    told = {"crs_wkt": "EPSG:32631", "GeoTransform": "500000 8 6 5000000 6 -8"}
    array = xarray.DataArray(np.zeros((3, 8, 9)), dims=("band", "y", "x"))
    array = array.assign_coords(spatial_ref=xarray.DataArray(0, attrs=told))
    grid = to_image(array).grid
    assert grid.transform == (8.0, 6.0, 500000.0, 6.0, -8.0, 5000000.0)
    assert grid.crs == "EPSG:32631"
    told["GeoTransform"] = "500000 8"
    array = array.assign_coords(spatial_ref=xarray.DataArray(0, attrs=told))
    with pytest.raises(UsageError, match="GeoTransform"):
        to_image(array)


def test_uneven_coordinates_are_refused() -> None:
    array = xarray.DataArray(
        np.zeros((2, 3)), dims=("y", "x"), coords={"y": [0.0, 1.0], "x": [0.0, 1.0, 5.0]}
    )
    with pytest.raises(UsageError, match="evenly"):
        to_image(array)


def test_unknown_dimensions_are_refused() -> None:
    with pytest.raises(UsageError, match="dimensions"):
        to_image(xarray.DataArray(np.zeros((2, 3, 4)), dims=("y", "x", "flavour")))
