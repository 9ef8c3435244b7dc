"""What the model sees may be larger or smaller; where things lie does not change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digseg.grid import Grid
from digseg.prompts import Prompt
from digseg.raster import Modality, Volume
from digseg.resample import Rescale, rescale
from digseg.run.magnify import Magnified, MagnifiedEncoder, fitted, magnification, magnified
from digseg.settings import SegmentSettings
from digseg.types import Encoded, EncodingModel, Float32Array

PROMPTS = (Prompt("bright"), Prompt("dark"))


class Brightness:
    """Answers with the tile itself, and its inverse; refuses tiles off its multiple."""

    identity = "brightness"
    multiple = 32

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        return self.decode(self.encode(tiles), prompts)

    def encode(self, tiles: Float32Array) -> Encoded:
        assert tiles.dtype == np.float32
        assert tiles.shape[-1] % self.multiple == 0 == tiles.shape[-2] % self.multiple
        self.seen = tiles.shape
        return {"grey": tiles[:, 1]}

    def decode(self, encoded: Encoded, prompts: Sequence[Prompt]) -> Float32Array:
        grey = encoded["grey"]
        return np.stack([grey, 1 - grey], axis=1)[:, : len(prompts)]


@pytest.mark.parametrize("factors", [(2.0, 2.0), (1.0, 3.0), (0.5, 0.5), (2.3, 1.7)])
def test_a_phantom_comes_back_where_it_was(factors: tuple[float, float]) -> None:
    """Boxes seen magnified, squeezed or reduced come back voxel-exact, their centre unmoved."""
    phantom = np.zeros((1, 3, 128, 128), dtype=np.float32)
    phantom[:, :, 24:56, 64:100] = 1.0
    model = Brightness()
    glass = magnified(model, factors)
    answer = glass(phantom, PROMPTS)
    assert answer.shape == (1, 2, 128, 128)
    assert model.seen[-2:] == tuple(round(128 * f / 32) * 32 for f in factors)
    soft = answer[0, 0]
    np.testing.assert_array_equal(soft > 0.5, phantom[0, 0] > 0.5)
    for index in np.indices(soft.shape):
        assert (soft * index).sum() / soft.sum() == pytest.approx(
            (phantom[0, 0] * index).sum() / phantom[0, 0].sum(), abs=1e-3
        )


def test_encoding_survives_and_equals_a_whole_call(rng: np.random.Generator) -> None:
    tiles = rng.random((2, 3, 50, 70), dtype=np.float32)
    glass = magnified(Brightness(), (2.0, 2.0))
    assert isinstance(glass, MagnifiedEncoder)
    assert isinstance(glass, EncodingModel)
    encoded = glass.encode(tiles)
    assert all(len(array) == 2 for array in encoded.values())
    np.testing.assert_array_equal(glass.decode(encoded, PROMPTS), glass(tiles, PROMPTS))
    assert glass.identity != magnified(Brightness(), (2.0, 2.5)).identity != "brightness"


def test_nothing_is_done_where_nothing_helps() -> None:
    model = Brightness()
    assert magnified(model, (1.0, 1.0)) is model


@pytest.mark.parametrize(
    ("shape", "spacing", "wanted", "factors"),
    [
        ((20, 512, 512), (5, 0.8, 0.8), None, (1.0, 1.0)),
        ((20, 512, 500), (5, 0.8, 0.9), None, (1.0, 1.0)),
        ((20, 100, 300), (1, 3, 1), None, (3.0, 1.0)),
        ((20, 56, 40), (1, 1, 1), None, (4.0, 4.0)),
        ((20, 84, 112), (3, 3, 3), None, (2.0, 2.0)),
        ((20, 84, 112), (3, 3, 3), 1.0, (3.0, 3.0)),
        ((20, 84, 112), (3, 3, 3), 6.0, (0.5, 0.5)),
        ((20, 84, 112), (3, 3, 1), 0.0, (1.0, 1.0)),
    ],
)
def test_factors(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    wanted: float | None,
    factors: tuple[float, float],
) -> None:
    affine = np.diag([*spacing[::-1], 1.0])
    volume = Volume(np.zeros(shape, np.int16), Grid.of(shape, affine, space="patient"))
    assert magnification(volume, SegmentSettings(spacing=wanted)) == pytest.approx(factors)


@pytest.mark.parametrize(
    ("shape", "modality", "plane", "factors"),
    [
        ((20, 512, 512), "CT", 320, (0.625, 0.625)),
        ((20, 400, 640), "MR", 320, (0.5, 0.5)),
        ((20, 2048, 2048), "MR", 320, (0.5, 0.5)),
        ((20, 512, 512), "other", 320, (1.0, 1.0)),
        ((20, 300, 320), "CT", 320, (1.0, 1.0)),
        ((20, 100, 160), "CT", 320, (2.0, 2.0)),
        ((20, 100, 160), "other", 320, (1.4, 1.4)),
        ((20, 512, 512), "CT", 0, (1.0, 1.0)),
        ((20, 56, 40), "CT", 320, (4.0, 4.0)),
    ],
)
def test_planes_of_a_scan_are_shown_as_large_as_the_model_recommends(
    shape: tuple[int, int, int], modality: Modality, plane: int, factors: tuple[float, float]
) -> None:
    grid = Grid.of(shape, np.diag([1.0, 1.0, 1.0, 1.0]), space="patient")
    volume = Volume(np.zeros(shape, np.int16), grid, modality)
    settings = SegmentSettings()
    assert magnification(volume, settings, None, {"plane": plane}) == factors
    assert magnification(volume, replace(settings, spacing=0.0), None, {"plane": plane}) == (1, 1)

    class Used(Brightness):
        recommended: ClassVar[dict[str, int]] = {"plane": plane}

    seen = fitted(Used(), volume, settings)
    assert (seen.factors if isinstance(seen, Magnified) else (1.0, 1.0)) == factors


@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_rescaling_keeps_constants_and_is_local(old: int, new: int, data: st.DataObject) -> None:
    scale = Rescale(old, new)
    start = data.draw(st.integers(0, new - 1))
    stop = data.draw(st.integers(start + 1, new))
    first, last = scale.reach(start, stop)
    assert 0 <= first < last <= old
    weights = scale.weights(start, stop)
    assert weights.shape == (stop - start, last - first)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-6)
    whole = scale.weights(0, new)[start:stop]
    np.testing.assert_allclose(weights, whole[:, first:last], atol=1e-6)
    assert whole.sum() == pytest.approx(stop - start, abs=1e-4)
    if old == new:
        np.testing.assert_array_equal(scale.weights(0, new), np.eye(old, dtype=np.float32))


def test_rescale_equals_a_ramp() -> None:
    ramp = np.arange(8, dtype=np.float32)[None, :].repeat(4, axis=0)
    up = rescale(ramp, Rescale(4, 4), Rescale(8, 16), (0, 4, 0, 16))
    np.testing.assert_allclose(up[0, 1:-1], (np.arange(16)[1:-1] + 0.5) / 2 - 0.5, atol=1e-6)
    down = rescale(ramp, Rescale(4, 2), Rescale(8, 4), (0, 2, 0, 4))
    np.testing.assert_allclose(down[0], [0.5, 2.5, 4.5, 6.5], atol=1e-6)


def test_the_glass_tells_the_memory_and_batch_of_the_model_behind_it() -> None:
    class Told(Brightness):
        preferred_batch = 8

        def vram_bytes(self, tile: tuple[int, int], prompts: int, batch: int) -> int:
            return tile[0] * tile[1] * prompts * batch

    glass = magnified(Told(), (2.0, 0.5))
    assert glass.vram_bytes((128, 128), 3, 4) == 256 * 64 * 3 * 4
    assert glass.preferred_batch == 8
    silent = magnified(Brightness(), (2.0, 0.5))
    assert silent.vram_bytes((128, 128), 3, 4) is None
    assert silent.preferred_batch == 1


def test_small_planes_are_shown_on_the_recommended_canvas() -> None:
    """In its middle, black around, without the mirror image that fills a tile; answers go back."""
    shown = []

    class Fine(Brightness):
        multiple = 4

    class Canvas(Fine):
        recommended: ClassVar[dict[str, int]] = {"canvas": 32}

        def encode(self, tiles: Float32Array) -> Encoded:
            shown.append(tiles)
            return super().encode(tiles)

    plane = np.random.default_rng(0).random((1, 3, 8, 10), dtype=np.float32)
    tile = np.pad(plane, ((0, 0), (0, 0), (0, 8), (0, 6)), mode="symmetric")
    glass = magnified(Canvas(), (2.0, 2.0), (8, 10))
    plain = magnified(Fine(), (2.0, 2.0))
    found = glass(tile, PROMPTS[:1])
    assert shown[0].shape == (1, 3, 32, 32)
    inside = shown[0][..., 8:24, 6:26]
    assert shown[0].sum() == pytest.approx(inside.sum())
    assert inside.any(axis=(0, 1)).all()
    assert found.shape == (1, 1, 16, 16)
    np.testing.assert_allclose(found[..., :8, :10], plain(plane, PROMPTS[:1]), atol=1e-6)
    assert not found[..., 8:, :].any()
    assert not found[..., 10:].any()
    assert glass.identity != magnified(Canvas(), (2.0, 2.0), (8, 11)).identity
