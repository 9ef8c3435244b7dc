"""Painted labels become a set that the training code reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Image, Labels, Layer
from napari_digseg._dataset import write_set
from napari_digseg._reader import read_layers
from PIL import Image as Pictures

from digseg.errors import DatasetError


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
        np.testing.assert_array_equal(np.asarray(mask), painted)
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
