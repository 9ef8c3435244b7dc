"""Oddities of georeferenced rasters, and what our GeoTIFF carries; rasterio is the judge."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import tifffile
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp, Resampling
from rasterio.rpc import RPC
from rasterio.transform import Affine

from digseg import io
from digseg.errors import InputError, UnsupportedInputError, UsageError
from digseg.grid import Grid
from digseg.prompts import PromptSet
from digseg.raster import ClassTable, Mask, Raster
from digseg.run.region import crop
from digseg.run.sources import raster_source
from digseg.settings import SegmentSettings
from digseg.types import AnyArray

CLASSES = ClassTable.of(PromptSet.parse(["water", "road=street", "trees & <shrubs>"]))
NORTH_UP = Affine(10, 0, 600000, 0, -10, 5000000)


def write(path: Path, pixels: AnyArray, **options: Any) -> Path:
    """A GeoTIFF of ``pixels [band, y, x]``; every raster has a transform unless told otherwise."""
    bands, height, width = pixels.shape
    profile = {"transform": NORTH_UP, "crs": "EPSG:32633", "dtype": pixels.dtype, **options}
    profile = {key: value for key, value in profile.items() if value is not None}
    with rasterio.open(
        path, "w", driver="GTiff", count=bands, height=height, width=width, **profile
    ) as target:
        target.write(pixels)
    return path


def image_of(path: Path) -> Raster:
    image = io.read(path)
    assert isinstance(image, Raster)
    return image


def ramp(*shape: int, dtype: str = "uint8") -> AnyArray:
    return (np.arange(np.prod(shape)) % 251).astype(dtype).reshape(shape)


@pytest.mark.parametrize(
    "transform",
    [
        Affine(10, 0, 600000.1, 0, -1 / 3, 5000000.7),
        Affine(10, 0, 0, 0, 10, 0),  # south-up
        Affine(8.66, 5, 100, 5, -8.66, 200),  # rotated
        Affine(10, 3.3, 100, 0, -10, 200),  # sheared
    ],
)
def test_transforms_are_kept_to_the_bit(tmp_path: Path, transform: Affine) -> None:
    path = write(tmp_path / "a.tif", ramp(1, 40, 30), transform=transform)
    image = image_of(path)
    assert image.grid.transform == tuple(transform)[:6]
    labels = ramp(40, 30) % 4
    out = tmp_path / "labels.tif"
    io.write_mask(Mask(labels, image.grid, CLASSES), out, source=image)
    with rasterio.open(out) as found:
        assert found.transform == transform
        assert found.crs.to_epsg() == 32633
    assert io.verify(path, out) == []


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_no_georeference(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", ramp(3, 20, 30), transform=None, crs=None)
    facts = io.info(path)
    assert facts["transform"] is None
    assert facts["crs"] is None
    assert facts["crs_epsg"] is None
    assert image_of(path).grid == Grid.of((20, 30))


def test_nan_nodata(tmp_path: Path) -> None:
    pixels = ramp(2, 8, 9, dtype="float32")
    pixels[:, 2, 3] = np.nan
    pixels[0, 4, 4] = np.nan  # one band of two: still data
    path = write(tmp_path / "a.tif", pixels, nodata=np.nan)
    image = image_of(path)
    assert image.nodata is not None
    assert np.isnan(image.nodata)
    assert io.info(path)["nodata"] == "nan"
    valid = image.validity((0, 8, 0, 9), np.asarray(image.data[...]))
    assert np.argwhere(~valid).tolist() == [[2, 3]]


def test_alpha_and_internal_mask(tmp_path: Path) -> None:
    pixels = ramp(4, 16, 16)
    pixels[3] = 255
    pixels[3, :4] = 0
    path = write(tmp_path / "alpha.tif", pixels, photometric="RGB", alpha="yes")
    image = image_of(path)
    assert image.bands == 4
    assert image.meta["colors"][-1] == "alpha"
    assert image.valid is not None
    np.testing.assert_array_equal(np.asarray(image.valid[...]) != 0, pixels[3] != 0)

    masked = tmp_path / "masked.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        write(masked, ramp(3, 16, 16), photometric="RGB")
        with rasterio.open(masked, "r+") as target:
            target.write_mask(pixels[3] != 0)
    valid = image_of(masked).valid
    assert valid is not None
    np.testing.assert_array_equal(np.asarray(valid[2:9, 3:]) != 0, pixels[3, 2:9, 3:] != 0)


def test_palette(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", ramp(1, 8, 8) % 3, photometric="palette")
    with rasterio.open(path, "r+") as target:
        target.write_colormap(1, {0: (1, 2, 3), 2: (200, 100, 50)})
    palette = image_of(path).meta["palette"]
    assert palette.shape == (256, 4)
    assert palette[[0, 2], :3].tolist() == [[1, 2, 3], [200, 100, 50]]
    assert io.info(path)["palette"] is True


def test_one_bit(tmp_path: Path) -> None:
    bits = ramp(1, 20, 19) % 2
    path = write(tmp_path / "a.tif", bits, NBITS=1, photometric="minisblack")
    np.testing.assert_array_equal(np.asarray(image_of(path).data[...]), bits)


def test_complex_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", ramp(1, 8, 8, dtype="complex64"))
    for ask in (io.read, io.info):
        with pytest.raises(UnsupportedInputError, match="complex"):
            ask(path)


def test_overviews_are_levels(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", ramp(1, 300, 200), tiled=True, blockxsize=64, blockysize=64)
    with rasterio.open(path, "r+") as target:
        target.build_overviews([2, 4], Resampling.nearest)
    image = image_of(path)
    assert [level.shape for level in image.levels] == [(1, 150, 100), (1, 75, 50)]
    with rasterio.open(path, overview_level=1) as coarse:
        np.testing.assert_array_equal(np.asarray(image.levels[1][...]), coarse.read())
    assert io.info(path)["overviews"] == [2, 4]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_control_points_travel(tmp_path: Path) -> None:
    points = [
        GroundControlPoint(row, col, 10 + col / 7, 50 - row / 9, 12.5)
        for row, col in ((0, 0), (0, 29), (19, 0), (19, 29), (7, 11))
    ]
    path = write(tmp_path / "a.tif", ramp(1, 20, 30), transform=None, crs="EPSG:4326", gcps=points)
    assert io.info(path)["gcps"] == 5
    assert io.info(path)["transform"] is None
    image = image_of(path)
    out = tmp_path / "labels.tif"
    io.write_mask(Mask(ramp(20, 30) % 3, image.grid, CLASSES), out, source=image)
    with rasterio.open(out) as found:
        kept, crs = found.gcps
        assert crs.to_epsg() == 4326
        assert [(p.row, p.col, p.x, p.y) for p in kept] == [
            (p.row, p.col, p.x, p.y) for p in points
        ]
    assert io.verify(path, out) == []


def test_tie_points_of_a_part_speak_of_its_own_pixels(tmp_path: Path) -> None:
    points = [
        GroundControlPoint(row, col, 10 + col / 7, 50 - row / 9, 0.0)
        for row, col in ((0, 0), (0, 29), (19, 0), (19, 29))
    ]
    path = write(tmp_path / "a.tif", ramp(1, 20, 30), transform=None, crs="EPSG:4326", gcps=points)
    one = [1.0] + [0.0] * 19
    rpc = RPC(
        height_off=0,
        height_scale=1,
        lat_off=50,
        lat_scale=1,
        line_den_coeff=one,
        line_num_coeff=one,
        line_off=9.5,
        line_scale=10,
        long_off=10,
        long_scale=1,
        samp_den_coeff=one,
        samp_num_coeff=one,
        samp_off=14.25,
        samp_scale=15,
    )
    beside = write(tmp_path / "r.tif", ramp(1, 20, 30), transform=None, crs=None, rpcs=rpc)
    for image in (image_of(path), image_of(beside)):
        part = crop(image, ((5, 15), (8, 28)))
        out = tmp_path / "labels.tif"
        mask = Mask(ramp(10, 20) % 3, part.grid, CLASSES)
        io.write_mask(mask, out, source=part, overwrite=True)
        with rasterio.open(out) as found:
            assert found.transform.is_identity
            if image.meta.get("gcps"):
                moved = [(p.row + 5, p.col + 8, p.x, p.y) for p in found.gcps[0]]
                assert moved == [(p.row, p.col, p.x, p.y) for p in points]
                assert found.gcps[1].to_epsg() == 4326
            else:
                assert (found.rpcs.line_off, found.rpcs.samp_off) == (4.5, 6.25)


@pytest.mark.parametrize(
    "crs",
    [
        "EPSG:7415",  # compound: the Netherlands, with heights
        "EPSG:7405",  # compound: Great Britain, whose heights had become Orkney's
        "EPSG:3857",
        "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=39.25 +lon_0=18 "
        "+to_meter=0.0174532925199433 +ellps=WGS84",  # a rotated pole: no TIFF key says it
    ],
)
@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_coordinate_systems_are_kept(tmp_path: Path, crs: str, suffix: str) -> None:
    path = write(tmp_path / "a.tif", ramp(1, 20, 30), crs=crs)
    image = image_of(path)
    out = tmp_path / f"labels{suffix}"
    io.write_mask(Mask(ramp(20, 30) % 3, image.grid, CLASSES), out, source=image)
    with rasterio.open(path) as before, rasterio.open(out) as after:
        assert after.crs == before.crs
        assert after.crs.to_epsg() == before.crs.to_epsg()
    assert io.verify(path, out) == []


def test_a_pixel_is_nodata_when_every_band_is(tmp_path: Path) -> None:
    pixels = np.full((6, 8, 8), 5, np.uint16)
    pixels[:3, :, :2] = 0  # dark in what is shown
    pixels[:, :, 2:3] = 0
    path = write(tmp_path / "a.tif", pixels, nodata=0)
    _, valid = raster_source(image_of(path), SegmentSettings()).read(0, (0, 8, 0, 8))
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(valid, dataset.dataset_mask() > 0)
    assert (~valid).sum() == 8


def test_many_bands_and_band_names(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", ramp(37, 6, 5, dtype="int16"))
    with rasterio.open(path, "r+") as target:
        target.set_band_description(3, "near infrared")
    image = image_of(path)
    assert image.bands == 37
    assert image.band_names[1:3] == ("band 2", "near infrared")
    np.testing.assert_array_equal(image.read((1, 3, 0, 5), (36, 0)), ramp(37, 6, 5)[[36, 0], 1:3])


def test_bands_with_nodata_of_their_own(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", ramp(2, 6, 5))
    vrt = tmp_path / "a.vrt"
    rasterio.shutil.copy(path, vrt, driver="VRT")
    text = vrt.read_text()
    for band in (1, 2):
        mark = f'band="{band}">'
        text = text.replace(mark, f"{mark}<NoDataValue>{band}</NoDataValue>", 1)
    vrt.write_text(text)
    image = image_of(vrt)
    assert image.source is not None
    assert image.source.format == "VRT"
    assert image.nodata is None
    assert image.valid is not None


def test_other_gdal_formats(tmp_path: Path) -> None:
    pixels = ramp(1, 12, 9, dtype="float32")
    tif = write(tmp_path / "a.tif", pixels)
    for name, driver in (("a.img", "HFA"), ("a.asc", "AAIGrid"), ("a.dat", "ENVI")):
        path = tmp_path / name
        rasterio.shutil.copy(tif, path, driver=driver)
        image = image_of(path)
        assert image.source is not None
        assert image.source.format == driver
        np.testing.assert_array_equal(np.asarray(image.data[...]), pixels)
        assert image.grid.transform == tuple(NORTH_UP)[:6]


def test_several_images_in_one_file_ask_which(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    tif = write(tmp_path / "a.tif", ramp(1, 30, 30))
    for table in ("first", "second"):
        rasterio.shutil.copy(tif, path, driver="GPKG", RASTER_TABLE=table, APPEND_SUBDATASET="YES")
    with pytest.raises(UnsupportedInputError, match="FIRST, SECOND"):
        io.read(path)
    assert io.read(path, series="second").data.shape[1:] == (30, 30)
    with pytest.raises(UsageError, match="third"):
        io.read(path, series="third")


def test_pages_of_a_tiff_are_counted_and_chosen(tmp_path: Path) -> None:
    path, single = tmp_path / "pages.tif", tmp_path / "single.tif"
    pages = [ramp(64, 80) + np.uint8(number) for number in range(3)]
    with tifffile.TiffWriter(path) as target:
        for page in pages:
            target.write(page, photometric="minisblack", metadata=None)
            target.write(page[::2, ::2], subfiletype=1, metadata=None)  # an overview is no page
    tifffile.imwrite(single, pages[0], photometric="minisblack", metadata=None)
    assert io.info(path)["pages"] == 3
    assert io.info(single)["pages"] == 1
    assert image_of(path).meta["notes"] == (
        "3 pages: the first is read, --series 2 takes the second",
    )
    assert "notes" not in image_of(single).meta
    sources = set()
    for number, page in enumerate(pages, start=1):
        image = io.read(path, series=str(number))
        np.testing.assert_array_equal(np.asarray(image.data[0]), page)
        assert image.source is not None
        assert image.source.path == str(path)
        sources.add(image.source.identity)
    assert len(sources) == 3
    with pytest.raises(UsageError, match="choose one of 1 to 3"):
        io.read(path, series="4")
    with pytest.raises(UsageError, match="holds one image"):
        io.read(single, series="2")


def test_the_header_of_an_envi_raster_names_its_data_file(tmp_path: Path) -> None:
    tif = write(tmp_path / "a.tif", ramp(1, 30, 30))
    for name in ("scene.img", "other.dat"):
        rasterio.shutil.copy(tif, tmp_path / name, driver="ENVI")
        header = (tmp_path / name).with_suffix(".hdr")
        with pytest.raises(InputError, match=rf"give its data file, {name}\.$"):
            io.info(header)
        (tmp_path / name).unlink()
        with pytest.raises(InputError, match="not beside it"):
            io.info(header)


@pytest.fixture
def cog(tmp_path: Path) -> Path:
    """Labels of 1300 x 1100 pixels as we write them, nodata in a corner."""
    labels = (np.add.outer(np.arange(1300), np.arange(1100)) // 50 % 4).astype(np.uint8)
    labels[:90, :70] = 255
    grid = Grid.from_transform((1300, 1100), tuple(NORTH_UP)[:6], crs="EPSG:32633")
    path = tmp_path / "labels.tif"
    io.write_mask(Mask(labels, grid, CLASSES, nodata=255), path)
    return path


def test_cog_is_valid(cog: Path) -> None:
    from rio_cogeo import cog_validate

    valid, errors, warnings = cog_validate(cog, strict=True)
    assert valid, (errors, warnings)


def test_cog_carries_what_labels_need(cog: Path, tmp_path: Path) -> None:
    with rasterio.open(cog) as found:
        labels = found.read(1)
        assert found.nodata == 255
        assert found.colorinterp == (ColorInterp.palette,)
        assert found.colormap(1)[2][:3] == CLASSES.colors[2]
        assert found.overviews(1) == [2, 4]
        tags = found.tags(1)
        data = labels[labels != 255]
        assert int(tags["STATISTICS_MAXIMUM"]) == data.max()
        assert float(tags["STATISTICS_MEAN"]) == pytest.approx(data.mean())
        assert float(tags["STATISTICS_STDDEV"]) == pytest.approx(data.std())
        # GDAL itself tells the category names when it describes the file as a VRT.
        vrt = tmp_path / "labels.vrt"
        rasterio.shutil.copy(found, vrt, driver="VRT")
    text = vrt.read_text(encoding="utf-8")
    for name in ("background", "water", "road", "trees &amp; &lt;shrubs&gt;"):
        assert f"<Category>{name}</Category>" in text


def test_cog_overviews_hold_labels_only(cog: Path) -> None:
    """The mode of labels is one of them; a mean of 1 and 3 would be a false 2."""
    grid = Grid.from_transform((1200, 1200), tuple(NORTH_UP)[:6], crs="EPSG:32633")
    labels = np.where(np.arange(1200) % 2, 1, 3).astype(np.uint8)[None].repeat(1200, 0)
    path = cog.with_name("stripes.tif")
    io.write_mask(Mask(labels, grid, CLASSES), path)
    with rasterio.open(path, overview_level=0) as coarse:
        assert set(np.unique(coarse.read(1))) <= {1, 3}


def test_stale_neighbours_go(cog: Path) -> None:
    """An old .ovr or .msk beside a replaced file would be taken for the new file's."""
    grid = Grid.from_transform((40, 30), tuple(NORTH_UP)[:6], crs="EPSG:32633")
    for suffix in (".ovr", ".msk"):
        rasterio.shutil.copy(cog, cog.with_name(cog.name + suffix), driver="GTiff")
    labels = ramp(40, 30) % 4
    io.write_mask(Mask(labels, grid, CLASSES), cog, overwrite=True)
    assert not list(cog.parent.glob("*.ovr"))
    assert not list(cog.parent.glob("*.msk"))
    np.testing.assert_array_equal(np.asarray(image_of(cog).data[0]), labels)


def test_names_survive_without_the_sidecar(cog: Path) -> None:
    from digseg.io.geotiff import read_mask

    cog.with_name(cog.name + ".aux.xml").unlink()
    assert read_mask(str(cog)).classes == CLASSES


def test_names_of_other_tools_are_read(tmp_path: Path) -> None:
    """Category names and colours as GDAL, QGIS and others leave them."""
    from digseg.io.geotiff import read_mask

    path = write(tmp_path / "a.tif", ramp(1, 8, 8) % 3, photometric="palette")
    with rasterio.open(path, "r+") as target:
        target.write_colormap(1, {1: (9, 8, 7), 2: (200, 100, 50)})
    path.with_name("a.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><CategoryNames><Category>no</Category>'
        "<Category>corn</Category><Category>rye</Category></CategoryNames></PAMRasterBand>"
        "</PAMDataset>"
    )
    mask = read_mask(str(path))
    assert mask.classes.names == {0: "background", 1: "corn", 2: "rye"}
    assert mask.classes.colors == {1: (9, 8, 7), 2: (200, 100, 50)}


_FULL_DISK = """
import resource, signal, sys
import numpy as np
from digseg import io
from digseg.errors import DigsegError
from tests.io.test_geo import CLASSES, Grid, Mask, NORTH_UP
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
grid = Grid.from_transform((900, 900), tuple(NORTH_UP)[:6], crs="EPSG:32633")
labels = np.random.default_rng(0).integers(0, 4, (900, 900)).astype("uint8")
mask = Mask(labels, grid, CLASSES)
io.write_mask(mask, sys.argv[1] + "/before" + sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    io.write_mask(mask, sys.argv[1] + "/labels" + sys.argv[2])
except DigsegError as error:
    print(type(error).__name__, error.exit_code)
"""


@pytest.mark.parametrize("suffix", [".tif", ".png", ".ome.zarr"])
def test_full_disk_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    """A limit on file size stands in for a disk with no room: writing fails half-way."""
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(tmp_path), suffix],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stdout.split() in (["DoesNotFitError", "4"], ["OutputError", "2"]), done.stderr
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {name for name in left if name.startswith("before")}


def test_shared_samples(shared: Callable[[str], Path]) -> None:
    """Real rasters whose facts are stated beside them."""
    import json

    folder = shared("data/io_samples")
    for sample in json.loads((folder / "samples.json").read_text())["samples"]:
        path = folder / sample["file"]
        if sample["dtype"].startswith("complex"):
            with pytest.raises(InputError, match="complex"):
                io.info(path)
            continue
        facts = io.info(path)
        assert facts["shape"] == [sample["bands"], sample["height"], sample["width"]]
        assert facts["dtype"] == sample["dtype"]
        assert facts["crs_epsg"] == sample["epsg"]
        assert facts["transform"] == sample["transform"]
        assert facts["nodata"] == sample["nodata"]
