"""Public layouts, each from a small folder of that layout."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tests.train import layout_folders as folders

from digseg.errors import DatasetError, InputNotFoundError, UsageError
from digseg.train.layouts import LAYOUTS, detect, open_layout
from digseg.train.layouts.base import class_names
from digseg.train.layouts.prepare import prepare_any

#: Values in the mask file, and the class ids that they mean, by layout.
VALUES: dict[str, tuple[list[int], list[int]]] = {
    "ade20k": ([0, 1, 150], [255, 1, 150]),
    "cityscapes": ([0, 3, 7, 33], [255, 255, 7, 33]),
    "coco-stuff": ([0, 181, 255], [1, 182, 255]),
    "voc": ([0, 1, 20, 255], [0, 1, 20, 255]),
    "pascal-context": ([0, 1, 59, 255], [0, 1, 59, 255]),
    "loveda": ([0, 1, 2, 7], [255, 0, 2, 7]),
    "kvasir": ([0, 255], [0, 1]),
}

#: A value that each layout doesn't know.
STRANGE = {
    "ade20k": 151,
    "cityscapes": 34,
    "coco-stuff": 11,
    "voc": 21,
    "pascal-context": 60,
    "loveda": 8,
    "kvasir": 128,
    "msd": 3,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_is_told_from_its_folders(layout: str, tmp_path: Path) -> None:
    values = VALUES.get(layout, ([1, 2], []))[0]
    assert detect(folders.WRITERS[layout](tmp_path, values)) == layout


@pytest.mark.parametrize("layout", VALUES)
def test_values_become_class_ids(layout: str, tmp_path: Path) -> None:
    values, ids = VALUES[layout]
    opened = open_layout(folders.WRITERS[layout](tmp_path, values))
    assert opened.info.splits.keys() == {"train", "val"}
    for split in ("train", "val"):
        pictures = opened.pictures(split)
        assert len(pictures) == len(opened.info.splits[split]) > 0
        picture = pictures[0]
        assert picture.pixels.shape == (*picture.labels.shape, 3)
        assert picture.pixels.dtype == picture.labels.dtype == np.uint8
        expected = folders.stripes(ids, picture.labels.shape[1:])
        # Kvasir's masks are JPEG: the seam may move, the halves not.
        same = picture.labels[0] == expected
        assert same.mean() > 0.95 if layout == "kvasir" else same.all()
        assert set(ids) - {0, 255} <= opened.info.ids


@pytest.mark.parametrize("layout", LAYOUTS)
def test_unknown_value_names_file_and_value(layout: str, tmp_path: Path) -> None:
    value = STRANGE[layout]
    opened = open_layout(folders.WRITERS[layout](tmp_path, [value]))
    pair = opened.pairs["train"][0]
    with pytest.raises(DatasetError, match=f"{pair.mask.name}.*label value {value}"):
        opened.pictures("train")[0]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("role", ["image", "mask"])
def test_broken_pair_names_the_file(layout: str, role: str, tmp_path: Path) -> None:
    values = VALUES.get(layout, ([1, 2], []))[0]
    folder = folders.WRITERS[layout](tmp_path, values)
    pair = open_layout(folder).pairs["train"][0]
    (pair.image if role == "image" else pair.mask).unlink()
    with pytest.raises(DatasetError, match=pair.name.split("/")[-1]):
        open_layout(folder, layout)


@pytest.mark.parametrize("layout", VALUES)
def test_size_mismatch_names_file_and_sizes(layout: str, tmp_path: Path) -> None:
    opened = open_layout(folders.WRITERS[layout](tmp_path, VALUES[layout][0]))
    pair = opened.pairs["train"][0]
    folders.photo(pair.image, (9, 11))
    with pytest.raises(DatasetError, match=rf"{pair.mask.name} is 1 x .* 1 x 9 x 11"):
        opened.pictures("train")[0]


def test_truncated_picture_is_named(tmp_path: Path) -> None:
    opened = open_layout(folders.voc(tmp_path, [0, 1]))
    image = opened.pairs["train"][0].image
    image.write_bytes(image.read_bytes()[:200])
    with pytest.raises(DatasetError, match=image.name):
        opened.pictures("train")[0]


def test_colour_mask_is_no_index_mask(tmp_path: Path) -> None:
    opened = open_layout(folders.loveda(tmp_path, [1, 2]))
    mask = opened.pairs["train"][0].mask
    folders.photo(mask)
    with pytest.raises(DatasetError, match="no index mask"):
        opened.pictures("train")[0]


def test_names_of_the_public_sets() -> None:
    counts = {name: len(class_names(name)) for name in VALUES}
    assert counts == {
        "ade20k": 150,
        "cityscapes": 19,
        "coco-stuff": 171,
        "voc": 20,
        "pascal-context": 59,
        "loveda": 6,
        "kvasir": 1,
    }
    for name in VALUES:
        words = [words[0] for words in class_names(name).values()]
        assert len(set(words)) == len(words)
    assert class_names("ade20k")[22][0] == "water"
    assert class_names("coco-stuff")[1] == ("person",)
    assert class_names("coco-stuff")[182] == ("wood",)
    assert class_names("coco-stuff")[172] == ("concrete wall",)


def test_ade20k_takes_the_names_of_its_own_table(tmp_path: Path) -> None:
    folder = folders.ade20k(tmp_path, [1, 2])
    head = "Idx\tRatio\tTrain\tVal\tStuff\tName\n"
    rows = "1\t0.1\t1\t1\t1\twall, brick wall\n2\t0.1\t1\t1\t1\tbuilding\n"
    (folder / "objectInfo150.txt").write_text(head + rows, encoding="utf-8")
    classes = open_layout(folder).info.classes
    assert [(c.name, c.synonyms) for c in classes] == [("wall", ("brick wall",)), ("building", ())]


def test_decathlon_planes_are_axial_with_left_at_the_right(tmp_path: Path) -> None:
    opened = open_layout(folders.decathlon(tmp_path, [1, 2]))
    assert opened.info.name == "msd-hippocampus"
    assert [c.name for c in opened.info.classes] == [
        "anterior hippocampus",
        "posterior hippocampus",
    ]
    picture = opened.pictures("train")[0]
    # Voxels (0, 0, 1) and (1, 0, 1) of a RAS file: the patient's left, back, second slice up;
    # a radiologist sees that at the right edge, in the lowest row.
    assert picture.labels.shape == (6, 10, 8)
    assert picture.pixels.shape == (6, 10, 8, 1)
    assert np.argwhere(picture.labels == 1).tolist() == [[1, 9, 7]]
    assert np.argwhere(picture.labels == 2).tolist() == [[1, 9, 6]]


def test_decathlon_keeps_the_labelled_part_of_a_long_scan(tmp_path: Path) -> None:
    opened = open_layout(folders.decathlon(tmp_path, [1, 2], (8, 10, 40)))
    picture = opened.pictures("train")[0]
    assert picture.planes == 8  # slice 1, one below and six above
    assert (picture.labels[1] > 0).sum() == 2


def test_decathlon_size_mismatch(tmp_path: Path) -> None:
    opened = open_layout(folders.decathlon(tmp_path, [1, 2]))
    pair = opened.pairs["train"][0]
    nib.save(nib.Nifti1Image(np.zeros((8, 10, 5), np.uint8), np.eye(4)), pair.mask)
    with pytest.raises(DatasetError, match=pair.mask.name):
        opened.pictures("train")[0]


def test_decathlon_broken_description(tmp_path: Path) -> None:
    folder = folders.decathlon(tmp_path, [1])
    (folder / "dataset.json").write_text(json.dumps({"name": "x"}), encoding="utf-8")
    with pytest.raises(DatasetError, match=r"dataset\.json"):
        open_layout(folder, "msd")


def test_held_out_split_is_fixed_and_disjoint(tmp_path: Path) -> None:
    folder = folders.kvasir(tmp_path, [0, 255])
    first, second = open_layout(folder).info.splits, open_layout(folder).info.splits
    assert first == second
    assert not set(first["train"]) & set(first["val"])
    assert len(first["train"]) + len(first["val"]) == 12


def test_kvasir_takes_a_split_that_is_given(tmp_path: Path) -> None:
    folder = folders.kvasir(tmp_path, [0, 255])
    (folder / "train.txt").write_text("polyp1\npolyp2\n", encoding="utf-8")
    (folder / "val.txt").write_text("polyp3\n", encoding="utf-8")
    assert open_layout(folder).info.splits == {"train": ("polyp1", "polyp2"), "val": ("polyp3",)}


def test_pictures_are_reduced_and_kept(tmp_path: Path) -> None:
    opened = open_layout(folders.voc(tmp_path, [0, 1]))
    pictures = opened.pictures("train", longest=8)
    assert pictures[0].labels.shape == (1, 6, 8)
    assert pictures[0] is pictures[0]
    assert [p.name for p in pictures[:1]] == ["2007_000032"]


def test_folder_of_no_layout(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no known layout"):
        open_layout(tmp_path)
    with pytest.raises(InputNotFoundError):
        open_layout(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="imagenet"):
        open_layout(tmp_path, "imagenet")


def test_prepare_any_reads_packs_and_layouts_together(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    from tests.evaluate.labelled_sets import write_set

    mask = (rng.random((16, 16)) > 0.5).astype(np.uint8)
    write_set(tmp_path / "pack", {"train": {"a": mask}}, [(1, "water", ())])
    folders.decathlon(tmp_path / "task", [1, 2])
    infos, pictures = prepare_any([tmp_path / "pack", tmp_path / "task"])
    assert [info.name for info in infos] == ["pack", "msd-hippocampus"]
    assert np.array_equal(pictures["pack"][0].labels[0], mask)
    assert pictures["msd-hippocampus"][0].planes == 6
    with pytest.raises(DatasetError, match="Two sets"):
        prepare_any([tmp_path / "pack", tmp_path / "pack"])
    with pytest.raises(InputNotFoundError):
        prepare_any([tmp_path / "nowhere"])
