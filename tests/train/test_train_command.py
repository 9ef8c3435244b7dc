"""``train`` from the command line, on a tiny model and tiny sets."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.evaluate.labelled_sets import write_set
from tests.train.layout_folders import decathlon
from tests.train.tiny import save_tiny

from digseg.cli.main import main
from digseg.errors import DatasetError, DoesNotFitError
from digseg.model import load
from digseg.prompts import Prompt
from digseg.train.cache import load_cache, save_cache
from digseg.train.layouts.prepare import prepare_any

QUICK = ["--batch", "1", "--log-every", "1", "--threads", "1", "-q", "--json"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(1)
    root = tmp_path_factory.mktemp("data")
    masks = {}
    for number in range(3):
        mask = np.zeros((64, 72), np.uint8)
        mask[8 * number : 8 * number + 24, 10:50] = 1
        mask[50:, :] = 2
        mask[:2] = 255
        masks[f"p{number}"] = mask
    images = {
        name: np.clip(mask * 60.0 + rng.normal(30, 5, mask.shape), 0, 255)
        for name, mask in masks.items()
    }
    classes = [(1, "water", ("lake",)), (2, "road", ("street",))]
    folder = write_set(root / "one", {"train": masks, "val": masks}, classes, images)
    assert folder.is_dir()
    return root


def _train(model: Path, out: Path, data: Path, *more: str) -> list[str]:
    return ["train", str(data), "-o", str(out), "--model", str(model), *QUICK, *more]


def test_a_mix_is_read_before_the_pictures_and_its_unknown_names_are_told(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mix = tmp_path / "mix.json"
    mix.write_text('{"sets": {"oen": {"weight": 2}, "one": {"prompts": 2}}}')
    loud = [word for word in _train(model, tmp_path / "run", data) if word != "-q"]
    assert main([*loud, "--stage2", "1", "--mix", str(mix)]) == 0
    assert "not among the data: oen\n" in capsys.readouterr().err
    mix.write_text('{"sets": []}')
    gone = _train(model, tmp_path / "other", tmp_path / "no-data", "--mix", str(mix))
    assert main(gone) == 3
    assert "'sets' has to be an object of names" in capsys.readouterr().err
    mix.write_text('{"sets": {"one": {"weight": "2"}}}')
    assert main(gone) == 3
    assert "'weight' of one is '2'" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_two_stages_end_in_a_model_that_segments(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(_train(model, out, data, "--stage1", "2", "--stage2", "3")) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["pictures"] == 3
    assert told["stages"]["stage1"]["steps"] == 2
    assert told["stages"]["stage2"]["steps"] == 3
    assert told["stages"]["stage2"]["pictures_per_second"] > 0
    assert told["stages"]["stage2"]["loss"] > 0
    assert json.loads((out / "training.json").read_text())["model"] == str(out / "model")
    with (out / "stage2" / "loss.csv").open() as opened:
        assert [row["step"] for row in csv.DictReader(opened)] == ["1", "2", "3"]
    with Image.open(out / "loss.png") as plot:
        assert plot.size[0] > 1000  # two stages side by side
        assert np.asarray(plot.convert("L")).std() > 5
    trained, before = load(out / "model"), load(model)
    tiles = np.random.default_rng(0).random((1, 3, 64, 64), dtype=np.float32)
    maps = trained(tiles, [Prompt("water"), Prompt("road")])
    assert maps.shape == (1, 2, 64, 64)
    assert not np.array_equal(maps, before(tiles, [Prompt("water"), Prompt("road")]))

    # Again: refused, gone on with, begun anew.
    assert main(_train(model, out, data, "--stage2", "3")) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(_train(model, out, data, "--stage1", "2", "--stage2", "4", "--resume")) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["stages"]["stage2"]["steps"] == 4
    assert main(_train(model, out, data, "--stage2", "1", "--overwrite")) == 0
    assert not (out / "stage1").exists()


@pytest.mark.parametrize("channels", [3, 4])
def test_near_infrared_is_recommended_only_by_a_model_that_was_shown_it(
    model: Path, data: Path, tmp_path: Path, channels: int
) -> None:
    given = tmp_path / "given"
    shutil.copytree(model, given)
    index = json.loads((given / "model_index.json").read_text())
    index["recommended"] = {"plane": 320, "near_infrared": 8.0}
    (given / "model_index.json").write_text(json.dumps(index))
    if channels == 4:
        folder = tmp_path / "sets" / "multispectral"
        write_set(folder, {"train": {"a": np.ones((64, 64), np.uint8)}}, [(1, "water", ())])
        told = json.loads((folder / "dataset.json").read_text())
        told |= {"image_ext": ".tif", "bands": ["red", "green", "blue", "nir"]}
        (folder / "dataset.json").write_text(json.dumps(told))
        profile = {"driver": "GTiff", "count": 4, "height": 64, "width": 64, "dtype": "uint8"}
        place = rasterio.Affine(10, 0, 500_000, 0, -10, 4_100_000)
        with rasterio.open(
            folder / "images" / "a.tif", "w", **profile, crs="EPSG:32631", transform=place
        ) as dataset:
            dataset.write(np.full((4, 64, 64), 90, np.uint8))
        data = folder.parent
    assert main(_train(given, tmp_path / "run", data, "--stage2", "1")) == 0
    index = json.loads((tmp_path / "run" / "model" / "model_index.json").read_text())
    assert index["recommended"]["plane"] == 320
    assert ("near_infrared" in index["recommended"]) is (channels == 4)


def test_lora_is_folded_into_the_weights(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    more = ("--stage2", "2", "--lora", "2", "--gradient-checkpointing", "--lr", "0.05")
    assert main(_train(model, out, data, *more)) == 0
    files = {f.name for f in (out / "model" / "unet").iterdir()}
    assert files == {"config.json", "diffusion_pytorch_model.safetensors"}
    from safetensors import safe_open

    changed = []
    with (
        safe_open(model / "unet" / "diffusion_pytorch_model.safetensors", "pt") as old,
        safe_open(out / "model" / "unet" / "diffusion_pytorch_model.safetensors", "pt") as new,
    ):
        assert set(old.keys()) == set(new.keys())
        changed = [k for k in old.keys() if not old.get_tensor(k).equal(new.get_tensor(k))]  # noqa: SIM118
    assert any("to_q" in key for key in changed)
    assert not any("resnets" in key for key in changed)
    load(out / "model")


def test_fresh_starts_at_random(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from digseg.model import DiGSegPipeline

    out = tmp_path / "run"
    assert main(_train(model, out, data, "--stage2", "1", "--fresh")) == 0
    told = DiGSegPipeline.from_pretrained(out / "model")
    assert told.unet.config.block_out_channels != (8, 8, 8)
    # The projection belongs to the text tower: which words are alike stays as it was.
    given = DiGSegPipeline.from_pretrained(model).text_pathway.projection
    assert torch.equal(told.text_pathway.projection.weight, given.weight)


def test_the_second_stage_trains_what_the_first_left_alone(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    more = ("--stage1", "1", "--stage2", "2", "--lr", "0.05", "--tune-encoder")
    assert main(_train(model, out, data, *more)) == 0
    for part, name in (
        ("mask_decoder", "exit.weight"),
        ("image_encoder", "stages.6.0.project.weight"),
    ):
        file = f"{part}/diffusion_pytorch_model.safetensors"
        old, new = (load_file(root / file) for root in (model, out / "model"))
        keys = [key for key in old if key.startswith(name)]
        assert keys
        assert not any(torch.equal(old[key], new[key]) for key in keys), part


def test_cache_packs_and_trains(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "pictures.zip"
    assert main(["train", str(data), "--cache", str(cache), "--json", "-q"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bytes"] == cache.stat().st_size < 45_000_000
    out = tmp_path / "run"
    assert main(_train(model, out, cache, "--stage2", "1")) == 0
    assert (out / "model" / "model_index.json").is_file()


def test_cache_keeps_labels_exactly_and_pixels_nearly(data: Path, tmp_path: Path) -> None:
    decathlon(tmp_path / "task", [1, 2])
    infos, pictures = prepare_any([data, tmp_path / "task"])
    save_cache((infos, pictures), tmp_path / "c.zip")
    told, found = load_cache(tmp_path / "c.zip")
    assert [(i.name, i.classes, i.splits, i.domain) for i in told] == [
        (i.name, i.classes, i.splits, i.domain) for i in infos
    ]
    for info in infos:
        for before, after in zip(pictures[info.name], found[info.name], strict=True):
            assert after.name == before.name
            assert after.pixels.shape == before.pixels.shape
            np.testing.assert_array_equal(after.labels, before.labels)
            off = np.abs(after.pixels.astype(int) - before.pixels.astype(int))
            assert off.mean() < 4


def test_cache_shrinks_until_it_fits(data: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (700, 700), dtype=np.uint8)
    mask = np.zeros((700, 700), np.uint8)
    write_set(tmp_path / "big", {"train": {"a": mask}}, [(1, "water", ())], {"a": noise})
    prepared = prepare_any([tmp_path / "big"])
    whole = save_cache(prepared, tmp_path / "a.zip")
    half = save_cache(prepared, tmp_path / "b.zip", limit=whole // 2)
    assert half <= whole // 2
    assert load_cache(tmp_path / "b.zip")[1]["big"][0].labels.shape[1] < 700
    with pytest.raises(DoesNotFitError):
        save_cache(prepared, tmp_path / "c.zip", limit=1000)
    assert sorted(f.name for f in tmp_path.glob("*c.zip*")) == []


def test_damaged_cache_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("index.json", "{}")
    with pytest.raises(DatasetError, match=r"x\.zip"):
        load_cache(tmp_path / "x.zip")
    (tmp_path / "y.zip").write_bytes(b"PK nothing")
    with pytest.raises(DatasetError, match=r"y\.zip"):
        load_cache(tmp_path / "y.zip")


def test_a_folder_of_sets_gives_the_shipped_ones_unless_told(tmp_path: Path) -> None:
    mask = np.ones((8, 8), np.uint8)
    for name, use in (("a", "train-and-ship"), ("b", "research-only")):
        write_set(tmp_path / name, {"train": {"x": mask}}, [(1, "water", ())], use=use)
    assert [info.name for info in prepare_any([tmp_path])[0]] == ["a"]
    assert [info.name for info in prepare_any([tmp_path], use="any")[0]] == ["a", "b"]
    assert [info.name for info in prepare_any([tmp_path / "b"])[0]] == ["b"]


def test_errors_and_exit_codes(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(data)]) == 2
    assert main(_train(model, tmp_path / "o", data, "--stage2", "0")) == 2
    assert main(_train(model, tmp_path / "o", data, "--batch", "0")) == 2
    if importlib.util.find_spec("tensorboard") is None:
        assert main(_train(model, tmp_path / "o", data, "--tensorboard")) == 2
    assert not (tmp_path / "o").exists()
    assert main(_train(model, tmp_path / "o", tmp_path / "nowhere")) == 3
    assert main(_train(tmp_path / "none", tmp_path / "o", data)) == 3
    mask = np.full((8, 8), 9, np.uint8)
    bad = write_set(tmp_path / "bad", {"train": {"odd": mask}}, [(1, "water", ())])
    capsys.readouterr()
    assert main(_train(model, tmp_path / "o", bad)) == 3
    error = capsys.readouterr().err
    assert "odd.png" in error
    assert "9" in error
