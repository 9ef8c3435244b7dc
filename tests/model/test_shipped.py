"""The model that comes with the package."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from digseg.model import registry
from digseg.model.adapter import LoadedModel, load
from digseg.prompts import Prompt

#: Bytes that the default model may take in the package.
LARGEST = 40_000_000


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load(device="cpu")


def test_it_is_small_and_holds_safetensors_and_text_only() -> None:
    info = registry.find_model(registry.DEFAULT)
    assert info.shipped
    assert info.size <= LARGEST
    kinds = {file.suffix for file in info.folder.rglob("*") if file.is_file()}
    assert kinds <= {".safetensors", ".json", ".txt", ".md"}
    for part in ("unet", "vae", "text_encoder", "text_pathway", "image_encoder", "mask_decoder"):
        assert part in info.components
    for file in info.folder.rglob("*.json"):
        assert "_name_or_path" not in file.read_text(), "a path of the machine that trained it"


def test_it_finds_water_in_a_drawn_coast(model: LoadedModel) -> None:
    """A dark blue sea beside pale sand: water above, and next to no liver anywhere."""
    rng = np.random.default_rng(0)
    picture = np.empty((3, 256, 256), np.float32)
    land = np.add.outer(np.arange(256), np.zeros(256)) > 140
    for channel, (sea, sand) in enumerate(((0.05, 0.78), (0.22, 0.70), (0.33, 0.55))):
        picture[channel] = np.where(land, sand, sea)
    picture += rng.normal(0, 0.02, picture.shape).astype(np.float32)
    tiles = np.clip(picture, 0, 1)[None]
    water, liver = model(tiles, [Prompt("water"), Prompt("liver")])[0]
    inside, outside = water[~land].mean(), water[land].mean()
    assert inside > 0.5
    assert outside < 0.3
    assert (liver > 0.5).mean() < 0.02


def test_the_coarsest_features_tell_pictures_apart(model: LoadedModel) -> None:
    """Long training once drove the trunk's last stage to one answer for every picture."""
    rng = np.random.default_rng(0)
    pictures = rng.random((4, 3, 256, 256), np.float32)
    for picture, wide in zip(pictures, (1, 4, 16, 64), strict=True):  # grain of that many pixels
        picture[:] = picture[:, ::wide, ::wide].repeat(wide, 1).repeat(wide, 2)
    encoder = model.pipeline.image_encoder
    with torch.no_grad():
        coarsest = encoder.trunk(torch.from_numpy(pictures) * 2 - 1)[-1].mean((2, 3))  # [4,320]
    assert coarsest.std(0).mean() > 0.1 * coarsest.abs().mean()


def test_words_never_seen_lie_near_known_ones(model: LoadedModel) -> None:
    """The text tower was distilled from a sentence model on general words."""
    known = ["forest", "road", "water", "building", "liver", "vertebrae", "nucleus"]
    pairs = {
        "woods": "forest",
        "motorway": "road",
        "hepatic tissue": "liver",
        "backbone": "vertebrae",
    }
    text = model.pipeline.encode_prompts([[word] for word in (*known, *pairs)])
    assert text.aligned is not None
    near = (text.aligned[len(known) :] @ text.aligned[: len(known)].T).argmax(1).tolist()
    assert [known[i] for i in near] == list(pairs.values())
