"""The pack's format: what is read, and what is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image

from digseg.errors import DatasetError
from digseg.train.pack import find_sets, load_split, read_info, read_picture
from digseg.types import AnyArray


def write(root: Path, image_ext: str = ".png", mask_ext: str = ".png", **more: object) -> Path:
    """The frame of a set with the classes 1 water, 2 road and one picture ``a``."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    info: dict[str, object] = {
        "name": root.name,
        "domain": "aerial",
        "use": "train-and-ship",
        "image_ext": image_ext,
        "mask_ext": mask_ext,
        "classes": [
            {"id": 1, "name": "water", "synonyms": ["lake"]},
            {"id": 2, "name": "road", "synonyms": []},
        ],
        "splits": {"train": ["a"]},
    }
    (root / "dataset.json").write_text(json.dumps({**info, **more}))
    return root


def save_picture(root: Path, image: AnyArray, mask: AnyArray) -> None:
    Image.fromarray(image).save(root / "images" / "a.png")
    Image.fromarray(mask).save(root / "masks" / "a.png")


def save_volume(file: Path, array: AnyArray, affine: AnyArray) -> None:
    nib.save(nib.Nifti1Image(array, affine), file)


def test_a_picture_keeps_its_bytes(tmp_path: Path, asymmetric: Callable[..., AnyArray]) -> None:
    root = write(tmp_path / "set")
    image = asymmetric(4, 5, 3, dtype="uint8")
    mask = np.array([[0, 1, 2, 255, 0]] * 4, np.uint8)
    save_picture(root, image, mask)
    (picture,) = load_split(read_info(root), "train")
    np.testing.assert_array_equal(picture.pixels[0], image)
    np.testing.assert_array_equal(picture.labels[0], mask)


def test_a_broken_pair_names_the_file(tmp_path: Path) -> None:
    root = write(tmp_path / "set")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(root / "images" / "a.png")
    with pytest.raises(DatasetError, match=r"masks/a\.png is missing"):
        load_split(read_info(root), "train")


def test_other_sizes_name_both(tmp_path: Path) -> None:
    root = write(tmp_path / "set")
    save_picture(root, np.zeros((4, 6), np.uint8), np.zeros((4, 5), np.uint8))
    with pytest.raises(DatasetError, match=r"masks/a\.png has the size 5 x 4, its image 6 x 4"):
        load_split(read_info(root), "train")


def test_an_unknown_label_names_the_value(tmp_path: Path) -> None:
    root = write(tmp_path / "set")
    save_picture(root, np.zeros((4, 4), np.uint8), np.full((4, 4), 7, np.uint8))
    with pytest.raises(DatasetError, match=r"masks/a\.png holds the label value 7"):
        load_split(read_info(root), "train")


def test_a_damaged_picture_names_the_file(tmp_path: Path) -> None:
    root = write(tmp_path / "set")
    save_picture(root, np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8))
    (root / "images" / "a.png").write_bytes(b"\x89PNG no more")
    with pytest.raises(DatasetError, match=r"images/a\.png"):
        load_split(read_info(root), "train")


def test_what_is_no_set(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no data set"):
        find_sets(tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "dataset.json").write_text("{")
    with pytest.raises(DatasetError, match="no valid JSON"):
        find_sets(tmp_path)
    root = write(tmp_path / "other" / "set")
    with pytest.raises(DatasetError, match="'val': it has train"):
        load_split(read_info(root), "val")
    assert [i.name for i in find_sets(root.parent, "train-and-ship")] == ["set"]
    with pytest.raises(DatasetError, match="no data set"):
        find_sets(root.parent, "research-only")


def test_bands_are_found_by_name_and_nodata_is_unlabelled(tmp_path: Path) -> None:
    root = write(
        tmp_path / "set", ".tif", ".tif", bands=["blue", "green", "red", "nir"], domain="satellite"
    )
    rng = np.random.default_rng(0)
    bands = rng.integers(100, 3000, (4, 20, 30)).astype(np.uint16)
    bands[:, :3] = 65535
    place = {"crs": "EPSG:32612", "transform": Affine(30, 0, 0, 0, -30, 0)}
    common = {"driver": "GTiff", "height": 20, "width": 30, **place}
    with rasterio.open(
        root / "images" / "a.tif", "w", count=4, dtype="uint16", nodata=65535, **common
    ) as out:
        out.write(bands)
    with rasterio.open(root / "masks" / "a.tif", "w", count=1, dtype="uint8", **common) as out:
        out.write(np.ones((1, 20, 30), np.uint8))
    picture = read_picture(read_info(root), "a")
    assert picture.pixels.shape == (1, 20, 30, 4)
    for channel, band in enumerate((2, 1, 0, 3)):  # red, green, blue, near infrared
        valid = bands[band, 3:]
        low, high = np.percentile(valid, (2, 98))
        expected = np.clip((valid - low) / (high - low), 0, 1) * 255
        np.testing.assert_allclose(picture.pixels[0, 3:, :, channel], expected, atol=0.6)
    assert (picture.labels[0, :3] == 255).all()
    assert (picture.labels[0, 3:] == 1).all()


def test_a_volume_is_turned_to_lps(tmp_path: Path) -> None:
    """A mark at the patient's left, front and top, in a file that runs to R, P and I."""
    root = write(tmp_path / "set", ".nii.gz", ".nii.gz", window=[-100, 100], domain="ct")
    image = np.full((5, 6, 7), -100, np.int16)
    mask = np.zeros((5, 6, 7), np.uint8)
    image[0, 0, 0], mask[0, 0, 0] = 100, 1  # first voxel: left, front, top
    affine = np.diag([1.0, -1.0, -1.0, 1.0])  # i to the right, j to the back, k down
    save_volume(root / "images" / "a.nii.gz", image, affine)
    save_volume(root / "masks" / "a.nii.gz", mask, affine)
    picture = read_picture(read_info(root), "a")
    assert picture.labels.shape == (7, 6, 5)
    # Top plane is the last, the front is the first row, the left is the last column.
    assert np.argwhere(picture.labels == 1).tolist() == [[6, 0, 4]]
    assert picture.pixels[6, 0, 4, 0] == 255
    assert picture.pixels.sum() == 255


def test_groups_stand_beside_classes(tmp_path: Path) -> None:
    root = write(
        tmp_path / "set",
        groups={"wet": [1], "road": [1, 2]},
        not_annotated={"a": [2]},
    )
    info = read_info(root)
    assert {c.name: c.ids for c in info.classes} == {"water": (1,), "road": (1, 2)}
    assert {g.name: g.ids for g in info.groups} == {"wet": (1,)}
    assert info.unlabelled == {"a": (2,)}


def test_every_shipped_set_can_be_read(shared: Callable[[str], Path]) -> None:
    """One picture of each real set: sizes agree, labels are known, bytes are not flat."""
    infos = find_sets(shared("data"), "train-and-ship")
    assert len(infos) >= 30
    for info in infos:
        split = "train" if info.splits.get("train") else "val"
        picture = load_split(info, split, limit=1)[0]
        assert picture.pixels.shape[:3] == picture.labels.shape, info.name
        assert picture.pixels.std() > 1, info.name
        assert ((picture.labels > 0) & (picture.labels < 255)).any(), info.name
