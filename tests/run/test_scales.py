"""The mean of what a model says to a tile at several sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from tests.run.test_magnify import PROMPTS, Brightness
from tests.run.test_settled import UTM, FirstChannel, scene

import digseg
from digseg.errors import UsageError
from digseg.evaluate.predict import Predictor
from digseg.prompts import Prompt
from digseg.run.magnify import magnified
from digseg.run.scales import Averaged, AveragedEncoder
from digseg.settings import MOST_SCALES, SegmentSettings, parse_scales
from digseg.types import EncodingModel, Float32Array

ONCE = (1.0, 1.0)


class Sized:
    """Answers with the side of the tile that it is shown, in thousandths."""

    identity = "sized"
    multiple = 4
    preferred_batch = 3

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        shape = (len(tiles), len(prompts), *tiles.shape[-2:])
        return np.full(shape, tiles.shape[-1] / 1000, np.float32)


def test_answers_at_all_scales_are_averaged(rng: np.random.Generator) -> None:
    tiles = rng.random((2, 3, 64, 64), dtype=np.float32)
    both = magnified(Sized(), ONCE, scales=(0.5, 1.0, 2.0))
    assert isinstance(both, Averaged)
    assert not isinstance(both, AveragedEncoder)
    np.testing.assert_allclose(both(tiles, PROMPTS), (0.032 + 0.064 + 0.128) / 3, rtol=1e-6)


def test_what_was_read_is_kept_for_each_scale(rng: np.random.Generator) -> None:
    tiles = rng.random((2, 3, 64, 96), dtype=np.float32)
    both = magnified(Brightness(), (1.5, 1.0), scales=(0.5, 1.0))
    assert isinstance(both, EncodingModel)
    encoded = both.encode(tiles)
    assert all(len(array) == 2 for array in encoded.values())
    np.testing.assert_array_equal(both.decode(encoded, PROMPTS), both(tiles, PROMPTS))
    each = [magnified(Brightness(), (1.5 * s, s))(tiles, PROMPTS) for s in (0.5, 1.0)]
    np.testing.assert_allclose(both(tiles, PROMPTS), (each[0] + each[1]) / 2, atol=1e-6)


@pytest.mark.parametrize("count", range(1, MOST_SCALES + 1))
def test_a_model_that_answers_one_stays_at_exactly_one(count: int) -> None:
    class One(Sized):
        def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
            return np.ones((len(tiles), len(prompts), *tiles.shape[-2:]), np.float32)

    glass = magnified(One(), ONCE, scales=(0.5, 0.7, 1.0, 1.4)[:count])
    answer = glass(np.zeros((1, 3, 64, 64), np.float32), PROMPTS)
    np.testing.assert_array_equal(answer, 1.0)


def test_one_scale_of_one_is_the_model_itself() -> None:
    model = Sized()
    assert magnified(model, ONCE, scales=(1.0,)) is model is magnified(model, ONCE)


def test_scales_tell_models_apart_and_limits_are_those_of_all() -> None:
    class Told(Sized):
        def vram_bytes(self, tile: tuple[int, int], prompts: int, batch: int) -> int:
            return tile[0] * tile[1] * prompts * batch

    found = {magnified(Sized(), ONCE, scales=s).identity for s in ((), (0.5, 1), (1, 0.5), (2, 1))}
    assert len(found) == 4
    both = magnified(Told(), ONCE, scales=(1.0, 2.0))
    assert isinstance(both, Averaged)
    assert both.vram_bytes((64, 64), 2, 3) == 128 * 128 * 6
    assert (both.multiple, both.preferred_batch) == (4, 3)
    silent = magnified(Sized(), ONCE, scales=(1.0, 2.0))
    assert isinstance(silent, Averaged)
    assert silent.vram_bytes((64, 64), 2, 3) is None


@pytest.mark.parametrize(
    ("crs", "asked", "hints", "taken"),
    [
        (None, (), {}, []),
        (None, (), {"scales": [0.5, 1.0]}, [0.5, 1.0]),
        (None, (2.0,), {"scales": [0.5, 1.0]}, [2.0]),
        (UTM, (), {"scales": [0.5, 1.0]}, []),
        (UTM, (2.0,), {"scales": [0.5, 1.0]}, [2.0]),
    ],
)
def test_what_a_model_recommends_for_pictures_stands_in_the_recipe(
    crs: str | None, asked: tuple[float, ...], hints: dict[str, Any], taken: list[float]
) -> None:
    model = FirstChannel(hints)
    with digseg.segment(scene(crs=crs), ["crops"], model=model, scales=asked) as result:
        assert result.recipe["settings"]["scales"] == taken
        words = "--scales=" + ",".join(f"{scale:g}" for scale in taken)
        assert (words in result.recipe["command"]) == bool(taken)
        assert np.asarray(result.labels[:, :]).any()


def test_what_is_judged_is_seen_at_the_same_scales(rng: np.random.Generator) -> None:
    planes = rng.random((2, 3, 64, 64), dtype=np.float32)
    found = list(Predictor(Sized())(planes, PROMPTS, scales=(0.5, 1.0)))
    np.testing.assert_allclose(np.concatenate([maps for _, maps in found]), 0.048, rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("0.1", "between"), ("5", "between"), ("1,1", "different"), ("1,2,3,0.5,0.7", "up to 4")],
)
def test_scales_out_of_reason_are_refused(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        SegmentSettings(scales=parse_scales(text))


def test_words_are_no_scales() -> None:
    with pytest.raises(UsageError, match="numbers such as"):
        parse_scales("large")
    assert parse_scales(" ") == ()
    settings = SegmentSettings(scales=parse_scales("0.7, 1"))
    assert SegmentSettings.from_dict(settings.to_dict()) == settings
