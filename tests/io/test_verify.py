"""`verify` says what differs, and nothing where nothing does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from tests.io.dicom_files import ct_series, uid_of

from digseg import io
from digseg.cli.main import main
from digseg.errors import InputError
from digseg.grid import Grid
from digseg.io import vector
from digseg.io.vector_check import compare_polygons
from digseg.prompts import PromptSet
from digseg.raster import ClassTable, Mask, Raster, Volume

CLASSES = ClassTable.of(PromptSet.parse(["water", "road"]))
TRANSFORM = (10.0, 0.0, 600000.1, 0.0, -10.0, 5000000.3)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=30, height=20, count=3, dtype="uint8",
        crs="EPSG:32633", transform=rasterio.Affine(*TRANSFORM),
    ) as target:  # fmt: skip
        target.write(np.ones((3, 20, 30), np.uint8))
    return path


@pytest.fixture
def mask(image: Path) -> Mask:
    labels = (np.arange(600) % 3).astype(np.uint8).reshape(20, 30)
    return Mask(labels, io.read(image).grid, CLASSES)


def told(image: Path, mask: Mask, path: Path) -> list[str]:
    io.write_mask(mask, path, overwrite=True)
    return [difference.what for difference in io.verify(image, path)]


@pytest.mark.parametrize("suffix", [".tif", ".png", ".ome.zarr"])
def test_every_difference_is_said(image: Path, mask: Mask, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"labels{suffix}"
    assert told(image, mask, path) == []
    shifted = Grid.from_transform(
        (20, 30), (*TRANSFORM[:5], TRANSFORM[5] + 1e-9), crs=mask.grid.crs
    )
    assert told(image, replace(mask, grid=shifted), path) == ["the transform"]
    elsewhere = Grid.from_transform((20, 30), TRANSFORM, crs="EPSG:32634")
    assert told(image, replace(mask, grid=elsewhere), path) == ["the CRS"]
    smaller = Grid.from_transform((19, 30), TRANSFORM, crs=mask.grid.crs)
    cut = Mask(np.asarray(mask.labels)[:19], smaller, CLASSES)
    assert told(image, cut, path) == ["the shape"]
    strange = Mask(np.full((20, 30), 7, np.uint8), mask.grid, CLASSES)
    assert told(image, strange, path) == ["the set of label ids"]


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".parquet"])
def test_polygons(image: Path, mask: Mask, tmp_path: Path, suffix: str) -> None:
    path, labels = tmp_path / f"regions{suffix}", tmp_path / "labels.tif"
    io.write_mask(mask, labels)

    def differences(other: Mask, against: Path) -> list[str]:
        vector.write_polygons(other, path, overwrite=True)
        return [difference.what for difference in io.verify(against, path)]

    for against in (image, labels):
        assert differences(mask, against) == []
    shifted = Grid.from_transform((20, 30), (*TRANSFORM[:5], TRANSFORM[5] + 5.0), crs=mask.grid.crs)
    assert differences(replace(mask, grid=shifted), image) == ["a polygon"]
    elsewhere = Grid.from_transform((20, 30), TRANSFORM, crs="EPSG:32634")
    # GeoJSON has one CRS for all: there the polygons are in another place.
    what = "a polygon" if suffix == ".geojson" else "the CRS"
    assert differences(replace(mask, grid=elsewhere), image) == [what]
    renamed = ClassTable.of(PromptSet.parse(["water", "river"]))
    assert differences(replace(mask, classes=renamed), labels) == ["the name of label 2"]
    fewer = np.array(mask.labels)
    fewer[fewer == 1] = 0
    assert differences(Mask(fewer, mask.grid, CLASSES), labels) == [
        "the number of pixels of label 1"
    ]
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError):
        io.verify(image, path)


def test_polygons_against_large_label_ids(mask: Mask, tmp_path: Path) -> None:
    file = str(tmp_path / "a.gpkg")
    vector.write_polygons(mask, Path(file))
    labels = np.array(mask.labels).astype(np.uint32)
    labels[labels == 2] = 70_000
    large = replace(mask, labels=labels)
    told = [str(difference) for difference in compare_polygons(mask.grid, file, large)]
    assert [text.split(" is ")[0] for text in told] == [
        "the number of pixels of label 2",
        "the number of pixels of label 70000",
    ]


def test_polygons_across_the_antimeridian(tmp_path: Path) -> None:
    grid = Grid.from_transform((20, 30), (0.1, 0.0, 178.5, 0.0, -0.1, -40.0), crs="EPSG:4326")
    labels = (np.arange(600) % 3).astype(np.uint8).reshape(20, 30)
    mask = Mask(labels, grid, CLASSES)
    io.write_mask(mask, tmp_path / "labels.tif")
    for suffix in (".gpkg", ".geojson"):
        vector.write_polygons(mask, tmp_path / f"a{suffix}")
        assert io.verify(tmp_path / "labels.tif", tmp_path / f"a{suffix}") == []


def test_labels_against_labels(mask: Mask, tmp_path: Path) -> None:
    first, second = tmp_path / "a.tif", tmp_path / "b.ome.zarr"
    io.write_mask(mask, first)
    io.write_mask(mask, second)
    assert io.verify(first, second) == []
    changed = np.array(mask.labels)
    changed[3, 4] = 0 if changed[3, 4] else 1
    io.write_mask(Mask(changed, mask.grid, CLASSES), second, overwrite=True)
    (difference,) = io.verify(first, second)
    assert "1 pixels" in str(difference)
    renamed = ClassTable.of(PromptSet.parse(["water", "river"]))
    io.write_mask(Mask(mask.labels, mask.grid, renamed), second, overwrite=True)
    assert [d.what for d in io.verify(first, second)] == ["the class table"]


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_the_sidecar_counts_as_gdal_reads_it(mask: Mask, tmp_path: Path, suffix: str) -> None:
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    io.write_mask(mask, first)
    io.write_mask(mask, second)
    assert io.verify(first, second) == []
    sidecar = tmp_path / f"b{suffix}.aux.xml"
    text = sidecar.read_text(encoding="utf-8")
    sidecar.write_text(text.replace("<Category>road<", "<Category>river<"), encoding="utf-8")
    assert [d.what for d in io.verify(first, second)] == ["the class table"]
    sidecar.write_text(text.replace("<Category>road<", "<Category><"), encoding="utf-8")
    assert "the class table" in [d.what for d in io.verify(first, second)]
    entries = ["0 0 0 0", "9 9 9 255", "9 9 9 255"]
    table = "".join(
        "<Entry " + " ".join(f'c{i}="{part}"' for i, part in enumerate(row.split(), 1)) + "/>"
        for row in entries
    )
    painted = f"<ColorInterp>Palette</ColorInterp><ColorTable>{table}</ColorTable><CategoryNames>"
    sidecar.write_text(text.replace("<CategoryNames>", painted, 1), encoding="utf-8")
    with rasterio.open(second) as dataset:  # GDAL shows a PNG's own palette, not the sidecar's
        shown = dataset.colormap(1)[1][:3] == (9, 9, 9)
    assert shown == (suffix == ".tif")
    expected = ["the colour of label 1", "the colour of label 2"] if shown else []
    assert [d.what for d in io.verify(first, second)] == expected
    sidecar.unlink()
    assert [d.what for d in io.verify(first, second)][:1] == (
        [] if suffix == ".tif" else ["the space"]
    )


def test_colours_count_in_every_format(mask: Mask, tmp_path: Path) -> None:
    entries = tuple(replace(entry, color=(1, 2, 3)) for entry in CLASSES.entries)
    first, second = tmp_path / "a.tif", tmp_path / "b.ome.zarr"
    io.write_mask(mask, first)
    io.write_mask(replace(mask, classes=ClassTable(entries)), second)
    assert [d.what for d in io.verify(first, second)] == [
        "the colour of label 1",
        "the colour of label 2",
    ]


def test_an_opened_image_stands_for_its_file(image: Path, mask: Mask, tmp_path: Path) -> None:
    path = tmp_path / "labels.tif"
    io.write_mask(mask, path)
    opened = io.read(image)
    assert isinstance(opened, Raster)
    assert io.verify(opened, path) == []


def test_command(
    image: Path, mask: Mask, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "labels.tif"
    io.write_mask(mask, path)
    assert main(["verify", str(image), str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"equal": True, "differences": []}
    elsewhere = Grid.from_transform((20, 30), TRANSFORM, crs="EPSG:32634")
    io.write_mask(replace(mask, grid=elsewhere), path, overwrite=True)
    assert main(["verify", str(image), str(path), "--json"]) == 5
    said = capsys.readouterr()
    (difference,) = json.loads(said.out)["differences"]
    assert difference == {"what": "the CRS", "expected": "EPSG:32633", "found": "EPSG:32634"}
    assert len(said.err.strip().splitlines()) == 1
    assert main(["verify", str(image), str(tmp_path / "absent.tif")]) == 3


def test_one_of_several_series(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two series of one shape, 2.5 and 3 mm apart: labels belong to the one they were made of."""
    folder = tmp_path / "ct"
    ct_series(folder, series="thin", number=3)
    ct_series(folder, series="thick", number=4, step=(0.0, 0.0, 3.0))
    image = io.read(folder, series="4")
    assert isinstance(image, Volume)
    labels = (np.arange(np.prod(image.shape)) % 3).astype(np.uint8).reshape(image.shape)
    paths = [tmp_path / "labels.nii.gz", tmp_path / "labels.dcm"]
    for path in paths:
        io.write_mask(Mask(labels, image.grid, CLASSES), path, source=image)
        words = ["verify", str(folder), str(path)]
        for series in ("4", uid_of("thick")):
            assert main([*words, "--series", series]) == 0
        capsys.readouterr()
        assert main([*words, "--series", "3", "--json"]) == 5
        (difference,) = json.loads(capsys.readouterr().out)["differences"]
        assert difference["what"] == "the affine"
        assert main(words) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert "2 series, choose one" in said.err
        assert main([*words, "--series", "9"]) == 2
