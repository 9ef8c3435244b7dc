"""Painted labels become a set that the training code reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Image, Labels, Layer
from napari_digseg._dataset import UNKNOWN, write_set
from napari_digseg._place import KEY
from napari_digseg._reader import read_layers
from PIL import Image as Pictures

from digseg.errors import DatasetError
from digseg.train.layouts.prepare import prepare_any


def layer_of(path: Path) -> Image:
    ((data, meta, kind),) = read_layers(str(path))
    return Layer.create(data, meta, kind)


def test_a_painted_layer_becomes_pictures_masks_and_names(scene: Path, tmp_path: Path) -> None:
    painted = np.zeros((300, 420), np.int32)
    painted[10:60, 300:400] = 2
    features = {"index": [0, 2], "name": ["background", "roof"]}
    labels = Labels(painted, features=features)
    folder = tmp_path / "set"
    example = write_set(layer_of(scene), labels, (0, 0), folder, {2: "tin roof"})
    assert example.pictures == 1
    told = json.loads((folder / "dataset.json").read_text())
    assert [item["name"] for item in told["classes"]] == ["tin roof"]
    (name,) = told["splits"]["train"]
    with Pictures.open(folder / "masks" / f"{name}.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask), (painted == 2).astype(np.uint8))
    with Pictures.open(folder / "images" / f"{name}.png") as picture:
        assert (np.asarray(picture)[:, :210, 0] == 240).all()


@pytest.mark.parametrize(
    ("painted", "words"),
    [(np.zeros((300, 420), np.uint8), "Nothing"), (np.ones((3, 4), np.uint8), "image is")],
)
def test_labels_that_teach_nothing_are_refused(
    scene: Path, tmp_path: Path, painted: np.ndarray, words: str
) -> None:
    with pytest.raises(DatasetError, match=words):
        write_set(layer_of(scene), Labels(painted), (0, 0), tmp_path / "set")


def test_any_label_ids_become_classes_in_their_order(scene: Path, tmp_path: Path) -> None:
    painted = np.zeros((300, 420), np.int32)
    wanted = np.zeros((300, 420), np.uint8)
    for number, label in enumerate((3, 255, 300, 70_000), start=1):
        painted[number * 40 :][:30, 300:400] = label
        wanted[number * 40 :][:30, 300:400] = number
    painted[:5] = -1  # napari paints negative labels, too; no list of classes has them
    folder = tmp_path / "set"
    example = write_set(layer_of(scene), Labels(painted), (0, 0), folder, {300: "tin roof"})
    assert [entry.id for entry in example.classes.entries] == [3, 255, 300, 70_000]
    told = json.loads((folder / "dataset.json").read_text())
    named = {item["id"]: item["name"] for item in told["classes"]}
    assert named == {1: "class 3", 2: "class 255", 3: "tin roof", 4: "class 70000"}
    with Pictures.open(folder / "masks" / f"{told['splits']['train'][0]}.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask), wanted)
    prepared = prepare_any([str(folder)], layout=None, use=None, split="train")
    assert "tin roof" in str(prepared)


def test_what_has_no_data_is_unknown(scene: Path, tmp_path: Path) -> None:
    painted = np.zeros((300, 420), np.uint16)
    painted[10:20] = 7
    painted[20:30] = 9
    ours = {"classes": [{"id": 7, "name": "roof", "color": [1, 2, 3]}], "nodata": 9}
    labels = Labels(painted, metadata={KEY: ours})
    example = write_set(layer_of(scene), labels, (0, 0), tmp_path / "set")
    (path,) = (example.folder / "masks").iterdir()
    with Pictures.open(path) as mask:
        found = np.asarray(mask)
    assert set(np.unique(found[:10])) == {0}
    assert set(np.unique(found[10:20])) == {1}
    assert set(np.unique(found[20:30])) == {UNKNOWN}


def test_more_classes_than_a_mask_holds_are_refused(scene: Path, tmp_path: Path) -> None:
    painted = np.zeros((300, 420), np.uint16)
    painted[0, :254] = np.arange(1000, 1254)
    image, folder = layer_of(scene), tmp_path / "set"
    assert len(write_set(image, Labels(painted), (0, 0), folder).classes.entries) == 254
    painted[1, 0] = 5
    with pytest.raises(DatasetError, match="255 classes, and a training takes 254 at most"):
        write_set(image, Labels(painted), (0, 0), folder)
