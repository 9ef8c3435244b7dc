"""Arrays in memory, and images of other libraries, as rasters and volumes; and back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from digseg.errors import UsageError
from digseg.grid import Grid
from digseg.io import modality
from digseg.io.held import volume_of
from digseg.raster import Mask, Raster, Volume
from digseg.types import LabelArray

if TYPE_CHECKING:
    import xarray

# More planes than this on the first axis are slices of a volume rather than bands.
_MOST_BANDS = 16
# Names of dimensions by what they mean, as climate and imaging libraries write them.
_DIMS: dict[str, tuple[str, ...]] = {
    "band": ("band", "bands", "channel", "c"),
    "z": ("z", "slice", "depth"),
    "y": ("y", "lat", "latitude", "northing", "row"),
    "x": ("x", "lon", "longitude", "easting", "column"),
}


def to_image(
    image: Any, *, kind: Literal["auto", "raster", "volume"] = "auto", grid: Grid | None = None
) -> Raster | Volume:
    """A raster or volume from a value, an array, or an image of another library.

    An array of a volume is a CT where its values are Hounsfield units.

    Raises
    ------
    UsageError
        The array has no axes that make sense, or it is none.
    UnsupportedInputError
        An image of SimpleITK or nibabel is no volume.
    """
    if isinstance(image, (Raster, Volume)):
        return image
    if _is_dataarray(image):
        return _from_xarray(image, grid)
    held = volume_of(image)
    if held is not None:
        return held if grid is None else replace(held, grid=grid)
    image = _as_array(image)
    if np.dtype(image.dtype).kind not in "uifb":
        raise UsageError(f"Pixels of type {image.dtype} can't be segmented: give real numbers.")
    shape = tuple(image.shape)
    if kind == "volume" or (kind == "auto" and _looks_like_volume(shape)):
        if len(shape) != 3:
            raise UsageError(f"A volume is [z, y, x], not an array of shape {shape}.")
        place = grid or Grid.of(shape, space="patient", unit="millimetre")
        return Volume(image, place, modality.of_array(image, None)[0])
    if len(shape) == 2:
        image = image[None]
    elif len(shape) == 3 and shape[-1] in (3, 4) and shape[0] > _MOST_BANDS:
        image = image.transpose(2, 0, 1)
    elif len(shape) != 3:
        raise UsageError(f"A raster is [y, x] or [band, y, x], not an array of shape {shape}.")
    rows, columns = image.shape[1:]
    return Raster(image, grid or Grid.of((rows, columns)))


def mask_to_xarray(mask: Mask, labels: LabelArray) -> xarray.DataArray:
    """Labels with coordinates of pixel centres; names and CRS stand in the attributes."""
    import xarray

    coordinates: dict[str, Any] = {}
    if mask.grid.ndim == 2:
        a, b, c, d, e, f = mask.grid.transform
        if b == 0 and d == 0:
            rows, columns = mask.grid.shape
            coordinates = {
                "y": f + e * (np.arange(rows) + 0.5),
                "x": c + a * (np.arange(columns) + 0.5),
            }
    attributes: dict[str, Any] = {"flag_values": [], "flag_meanings": ""}
    attributes["flag_values"] = [entry.id for entry in mask.classes.entries]
    meanings = [entry.name.replace(" ", "_") for entry in mask.classes.entries]
    attributes["flag_meanings"] = " ".join(meanings)  # CF conventions, section 3.5
    if mask.grid.crs is not None:
        attributes["crs"] = mask.grid.crs
    return xarray.DataArray(
        labels, coords=coordinates, dims=mask.grid.axes, name="labels", attrs=attributes
    )


def _is_dataarray(image: Any) -> bool:
    return type(image).__module__.startswith("xarray") and type(image).__name__ == "DataArray"


def _as_array(image: Any) -> Any:
    """Lazy arrays as they are; Pillow's pictures and torch's tensors as NumPy sees them."""
    name = type(image).__module__.partition(".")[0]
    if name == "PIL":
        # Numbers as they are: 16 bits of either byte order would be cut to 8 on the way to RGB.
        flat = image.mode in ("L", "F", "RGB", "RGBA") or image.mode.startswith("I")
        return np.asarray(image if flat else image.convert("L" if image.mode == "1" else "RGB"))
    if name == "torch":
        image = image.detach().cpu()  # NumPy knows no bfloat16
        return (image.float() if image.is_floating_point() else image).numpy()
    if not hasattr(image, "shape") or not hasattr(image, "dtype"):
        raise UsageError(
            f"An object of the type {type(image).__name__} can't be segmented: "
            "give a path, an array, or an image of Pillow, SimpleITK, nibabel or xarray."
        )
    return image


def _looks_like_volume(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[0] > _MOST_BANDS and shape[-1] not in (3, 4)


def _from_xarray(array: xarray.DataArray, grid: Grid | None) -> Raster | Volume:
    """Read axes by name; the affine comes from evenly spaced coordinates (millimetres of a volume).

    For a raster without them it comes from the ``GeoTransform`` of the usual ``spatial_ref``
    coordinate; the CRS comes from there, too, or from a ``crs`` attribute.
    """
    by_role: dict[str, str] = {}
    for role, names in _DIMS.items():
        match = [str(dim) for dim in array.dims if str(dim).lower() in names]
        if match:
            by_role[role] = match[0]
    rest = [str(dim) for dim in array.dims if str(dim) not in by_role.values()]
    if rest or "y" not in by_role or "x" not in by_role:
        raise UsageError(
            f"The DataArray's dimensions {tuple(array.dims)} are not understood: "
            "name them band, y, x (a raster) or z, y, x (a volume)."
        )
    if "z" in by_role:
        ordered = array.transpose(by_role["z"], by_role["y"], by_role["x"])
        shape = tuple(int(side) for side in ordered.shape)
        place = grid or _patient_grid(array, by_role, shape)
        return Volume(ordered.data, place, modality.of_array(ordered.data, None)[0])
    ordered = (
        array.transpose(by_role["y"], by_role["x"])
        if "band" not in by_role
        else (array.transpose(by_role["band"], by_role["y"], by_role["x"]))
    )
    data = ordered.data if ordered.ndim == 3 else ordered.data[None]
    rows, columns = int(data.shape[1]), int(data.shape[2])
    if grid is None:
        grid = _grid_of(array, by_role, (rows, columns))
    band_names: tuple[str, ...] = ()
    if "band" in by_role and by_role["band"] in array.coords:
        band_names = tuple(str(value) for value in array.coords[by_role["band"]].values)
    nodata = array.attrs.get("_FillValue", array.attrs.get("nodata"))
    return Raster(data, grid, None if nodata is None else float(nodata), band_names=band_names)


def _patient_grid(array: xarray.DataArray, by_role: dict[str, str], shape: tuple[int, ...]) -> Grid:
    """Where a volume's coordinates put it; an axis without any has steps of 1 from 0."""
    affine = np.eye(4)
    for column, role in enumerate("xyz"):
        if by_role[role] in array.coords:
            values = array.coords[by_role[role]].values
            affine[column, column], affine[column, 3] = _even(values, by_role[role])
    return Grid.of(shape, affine, space="patient", unit="millimetre")


def _grid_of(array: xarray.DataArray, by_role: dict[str, str], shape: tuple[int, int]) -> Grid:
    crs, told = array.attrs.get("crs"), ""
    if "spatial_ref" in array.coords:
        attributes = array.coords["spatial_ref"].attrs
        crs = attributes.get("crs_wkt") or attributes.get("spatial_ref") or crs
        told = str(attributes.get("GeoTransform", ""))
    transform: tuple[float, ...]
    if by_role["y"] in array.coords and by_role["x"] in array.coords:
        step_y, first_y = _even(array.coords[by_role["y"]].values, by_role["y"])
        step_x, first_x = _even(array.coords[by_role["x"]].values, by_role["x"])
        transform = (step_x, 0.0, first_x - step_x / 2, 0.0, step_y, first_y - step_y / 2)
    elif told:  # a rotated raster has no coordinates of its axes
        try:
            c, a, b, f, d, e = (float(part) for part in told.split())  # GDAL's order
        except ValueError:
            raise UsageError(
                f"The GeoTransform {told!r} of the DataArray is no six numbers: mend it."
            ) from None
        transform = (a, b, c, d, e, f)
    else:
        return Grid.of(shape)
    return Grid.from_transform(shape, transform, crs=None if crs is None else str(crs))


def _even(values: Any, name: str) -> tuple[float, float]:
    centres = np.asarray(values, dtype=np.float64)
    if centres.size < 2:
        return 1.0, float(centres[0])
    step = (centres[-1] - centres[0]) / (centres.size - 1)
    if step == 0 or not np.allclose(np.diff(centres), step, rtol=1e-3):
        raise UsageError(f"The coordinate {name!r} is not evenly spaced: resample the array first.")
    return float(step), float(centres[0])
