"""Starting from a neighbour's masks: deterministic, by strength, tile by tile."""

from __future__ import annotations

import numpy as np
import pytest
from tests.model.stable_diffusion import save

from digseg.errors import UsageError
from digseg.model.adapter import LoadedModel
from digseg.model.pipeline import DiGSegPipeline
from digseg.prompts import PromptSet
from digseg.types import EnsembleModel, PropagatingModel

PROMPTS = PromptSet.parse(["liver", "spleen=milt"]).prompts


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A small converted checkpoint with random weights."""
    folder = save(tmp_path_factory.mktemp("checkpoint"))
    return LoadedModel(DiGSegPipeline.from_stable_diffusion(folder), "weights")


def test_it_starts_from_what_it_is_given(model: LoadedModel, rng: np.random.Generator) -> None:
    assert isinstance(model, PropagatingModel)
    assert isinstance(model, EnsembleModel)
    tiles = rng.random((2, 3, 64, 96), dtype=np.float32)
    empty = np.zeros((2, 2, 64, 96), np.float32)
    filled = np.ones_like(empty)
    first = model.continue_from(tiles, PROMPTS, empty, 0.5)
    assert first.shape == (2, 2, 64, 96)
    assert first.dtype == np.float32
    assert first.min() >= 0
    assert first.max() <= 1
    np.testing.assert_array_equal(first, model.continue_from(tiles, PROMPTS, empty, 0.5))
    assert not np.array_equal(first, model.continue_from(tiles, PROMPTS, filled, 0.5))
    # From pure noise nothing of the neighbour is left.
    alone = [model.continue_from(tiles, PROMPTS, start, 1.0) for start in (empty, filled)]
    np.testing.assert_allclose(alone[0], alone[1], atol=1e-5)


def test_each_tile_is_answered_by_itself(model: LoadedModel, rng: np.random.Generator) -> None:
    tiles = rng.random((2, 3, 64, 64), dtype=np.float32)
    previous = rng.random((2, 2, 64, 64), dtype=np.float32)
    together = model.continue_from(tiles, PROMPTS, previous, 0.4)
    single = model.continue_from(tiles[1:], PROMPTS, previous[1:], 0.4)
    np.testing.assert_allclose(together[1:], single, atol=1e-4)


def test_a_strength_out_of_range_is_refused(model: LoadedModel) -> None:
    tiles, previous = np.zeros((1, 3, 64, 64), np.float32), np.zeros((1, 2, 64, 64), np.float32)
    for strength in (0.0, 1.5):
        with pytest.raises(UsageError, match="strength"):
            model.continue_from(tiles, PROMPTS, previous, strength)
