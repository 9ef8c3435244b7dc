"""What the engine is handed, and what is found where."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from digseg.errors import ModelError, ModelNotFoundError, UsageError
from digseg.model import registry
from digseg.model.adapter import LoadedModel, load
from digseg.prompts import Prompt
from digseg.types import EncodingModel, Float32Array, SegmentationModel

PROMPTS = [Prompt("water"), Prompt("road", ("street", "highway")), Prompt("shadow", negative=True)]


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> LoadedModel:
    return load(tiny_folder, device="cpu")


def test_it_is_what_the_engine_asks_for(model: LoadedModel, tiles: Float32Array) -> None:
    assert isinstance(model, SegmentationModel)
    assert isinstance(model, EncodingModel)
    maps = model(tiles, PROMPTS)
    assert maps.shape == (2, 3, 64, 96)
    assert maps.dtype == np.float32
    assert 0 <= maps.min() < maps.max() <= 1
    assert model.multiple == 32


def test_a_call_is_encode_then_decode(model: LoadedModel, tiles: Float32Array) -> None:
    encoded = model.encode(tiles)
    assert all(len(array) == 2 for array in encoded.values())
    np.testing.assert_array_equal(model.decode(encoded, PROMPTS), model(tiles, PROMPTS))


def test_many_prompts_answer_as_single_ones(model: LoadedModel, tiles: Float32Array) -> None:
    many = [Prompt(f"thing {i}") for i in range(11)]  # more than go through at once
    together = model(tiles, many)
    for index in (0, 7, 8, 10):
        alone = model(tiles, [many[index]])[:, 0]
        np.testing.assert_allclose(together[:, index], alone, atol=1e-5)


def test_tiles_in_a_batch_answer_as_single_ones(model: LoadedModel, tiles: Float32Array) -> None:
    together = model(tiles, PROMPTS)
    for index in range(2):
        alone = model(tiles[index : index + 1], PROMPTS)
        np.testing.assert_allclose(together[index], alone[0], atol=1e-5)


def test_it_repeats_bit_for_bit(tiny_folder: Path, tiles: Float32Array) -> None:
    first, second = load(tiny_folder, device="cpu"), load(tiny_folder, device="cpu")
    np.testing.assert_array_equal(first(tiles, PROMPTS), second(tiles, PROMPTS))
    assert first.identity == second.identity


def test_identity_follows_weights_and_options(tiny_folder: Path, tmp_path: Path) -> None:
    plain = load(tiny_folder, device="cpu").identity
    assert load(tiny_folder, device="cpu", steps=2).identity != plain
    assert load(tiny_folder, device="cpu", seed=9).identity == plain, "one step has no noise"
    pair = [load(tiny_folder, device="cpu", ensemble=2, seed=s).identity for s in (0, 1)]
    assert len({plain, *pair}) == 3
    changed = tmp_path / "changed"
    shutil.copytree(tiny_folder, changed)
    (changed / "README.md").write_text("a card changes no answer")
    assert load(changed, device="cpu").identity == plain
    config = changed / "text_pathway" / "config.json"
    config.write_text(config.read_text() + " ")
    assert load(changed, device="cpu").identity != plain


def test_the_spread_is_that_of_the_ensemble(tiny_folder: Path, tiles: Float32Array) -> None:
    model = load(tiny_folder, device="cpu", ensemble=3, seed=1)
    mean, spread = model.spread(tiles, PROMPTS)
    np.testing.assert_array_equal(mean, model(tiles, PROMPTS))
    assert spread.shape == mean.shape
    assert spread.max() > 0
    with pytest.raises(UsageError, match="ensemble"):
        load(tiny_folder, device="cpu").spread(tiles, PROMPTS)


def test_no_prompts(model: LoadedModel, tiles: Float32Array) -> None:
    with pytest.raises(UsageError, match="No prompt"):
        model(tiles, [])


def test_models_are_found_by_name(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(registry.FOLDER_VARIABLE, str(tmp_path))
    shutil.copytree(tiny_folder, tmp_path / "mine")
    (tmp_path / "mine" / "README.md").write_text(
        "---\nlicense: CC0-1.0\nsummary: a test\n---\n# Mine\n"
    )
    (tmp_path / "no-model").mkdir()
    local = {info.name: info for info in registry.list_models() if not info.shipped}
    assert list(local) == ["mine"]
    info = registry.find_model("mine")
    assert (info.licence, info.summary) == ("CC0-1.0", "a test")
    assert info.components["unet"] == "UNet2DConditionModel"
    assert info.size == sum(f.stat().st_size for f in info.folder.rglob("*") if f.is_file())
    assert info.card.endswith("# Mine\n")
    assert load("mine", device="cpu").info == info


def test_models_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no-such-model"):
        registry.find_model("no-such-model")
    with pytest.raises(ModelError, match=r"model_index\.json"):
        registry.find_model(tmp_path)


def test_devices(tiny_folder: Path) -> None:
    with pytest.raises(UsageError, match="no device"):
        load(tiny_folder, device="abacus")


def test_a_model_travels_as_its_folder_and_answers_the_same(
    tiny_folder: Path, tiles: Float32Array
) -> None:
    import pickle

    model = load(str(tiny_folder), device="cpu")
    content = pickle.dumps(model)
    again = pickle.loads(content)
    assert len(content) < 2000, "weights travelled"
    assert again.identity == model.identity
    prompts = [Prompt("water")]
    assert np.array_equal(again(tiles, prompts), model(tiles, prompts))
