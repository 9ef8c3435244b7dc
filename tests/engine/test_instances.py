"""Instances over blocks against scipy's label of the whole, in two and three dimensions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from digseg.engine import instances


def same_up_to_names(got: NDArray[np.int64], expected: NDArray[np.int64]) -> bool:
    pairs = np.unique(np.stack([got.ravel(), expected.ravel()]), axis=1)
    one_to_one = all(len(np.unique(side)) == pairs.shape[1] for side in pairs)
    return one_to_one and np.array_equal(got == 0, expected == 0)


@settings(max_examples=60)
@given(
    shape=st.one_of(
        st.tuples(st.integers(1, 40), st.integers(1, 40)),
        st.tuples(st.integers(1, 12), st.integers(1, 14), st.integers(1, 13)),
    ),
    side=st.integers(1, 17),
    share=st.floats(0.1, 0.8),
    seed=st.integers(0, 1000),
    diagonal=st.booleans(),
)
def test_equal_to_scipy(
    shape: tuple[int, ...], side: int, share: float, seed: int, diagonal: bool
) -> None:
    mask = np.random.default_rng(seed).random(shape) < share
    structure = np.ones((3,) * mask.ndim, bool) if diagonal else None
    expected, count = ndimage.label(mask, structure=structure)
    block = tuple(side + axis for axis in range(mask.ndim))
    found = instances(mask.astype(np.uint8), block=block, diagonal=diagonal)
    got = found[tuple(slice(None) for _ in shape)]
    assert found.count == count
    assert same_up_to_names(got, expected)
    assert set(np.unique(got)) - {0} == set(range(1, count + 1)), "ids have gaps"


def test_a_window_reads_only_its_blocks_and_agrees_with_the_whole() -> None:
    labels = (np.random.default_rng(2).random((70, 90)) < 0.6).astype(np.uint8) * 3
    found = instances(labels, value=3, block=(16, 16))
    whole = found[:, :]
    assert np.array_equal(found[20:55, 33:34], whole[20:55, 33:34])
    assert np.array_equal(found[5], whole[5])
    assert found[:, 7].shape == (70,)


def test_one_class_of_several_is_numbered() -> None:
    labels = np.array([[1, 1, 0, 2], [0, 1, 2, 2]], np.uint8)
    assert instances(labels, value=2, block=(1, 2)).count == 1
    assert instances(labels, value=1, block=(1, 2)).count == 1
    assert instances(labels, block=(2, 2)).count == 1  # any label but background


def test_labels_of_another_rank_are_refused() -> None:
    with pytest.raises(ValueError, match="labels are"):
        instances(np.zeros(5, np.uint8))
