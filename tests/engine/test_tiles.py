"""The lattice: fewest tiles, no gap, no double ownership, halos kept; and exact weights."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from digseg.blend import BlockBuffer, Contribution, contribute, ramp_weights
from digseg.engine.plan import Block, Plan, block_shape
from digseg.settings import SegmentSettings
from digseg.tiles import Axis, Lattice, tile_count

axes = st.integers(32, 600).flatmap(
    lambda tile: st.builds(
        Axis,
        length=st.integers(1, 2500),
        tile=st.just(tile),
        overlap=st.integers(0, tile // 2),
    )
)


@settings(max_examples=150)
@given(axes)
def test_an_axis_is_covered_once_by_the_fewest_tiles(axis: Axis) -> None:
    if axis.length > axis.tile:
        assert axis.count <= -(-(axis.length - axis.overlap) // (axis.tile - axis.overlap))
    else:
        assert axis.count == 1
    edges = axis.edges
    assert (edges[0], edges[-1]) == (0, axis.length)
    assert all(start <= stop for start, stop in pairwise(edges))
    assert len(edges) == 2 * axis.count
    for tile in range(axis.count):
        start, stop = axis.owned(tile)
        first, last = axis.start(tile), min(axis.start(tile) + axis.tile, axis.length)
        assert first <= start <= stop <= last
        # Inside the plane a tile sees a halo beyond everything it answers for.
        assert tile == 0 or start - first >= axis.halo
        assert tile == axis.count - 1 or last - stop >= axis.halo
        assert first >= 0
        assert last <= axis.length


@settings(max_examples=80)
@given(axes, st.data())
def test_tiles_of_a_span_are_found(axis: Axis, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, axis.length - 1))
    stop = data.draw(st.integers(start + 1, axis.length))
    touching = [
        tile
        for tile in range(axis.count)
        if axis.owned(tile)[0] < stop and axis.owned(tile)[1] > start
    ]
    assert touching == [t for t in axis.touching(start, stop) if axis.owned(t)[1] > start]
    assert set(touching) <= set(axis.touching(start, stop))
    starting = [tile for tile in range(axis.count) if start <= axis.owned(tile)[0] < stop]
    assert list(axis.starting(start, stop)) == starting


@settings(max_examples=80)
@given(axes)
def test_weights_of_neighbours_add_up_exactly(axis: Axis) -> None:
    for tile in range(axis.count - 1):
        interval = 2 * tile + 1
        total = ramp_weights(axis, interval, tile) + ramp_weights(axis, interval, tile + 1)
        assert np.all(total == 256)
        rising = ramp_weights(axis, interval, tile + 1)
        assert np.all(np.diff(rising) >= 0)


def test_a_thousand_sizes_take_the_fewest_tiles() -> None:
    rng = np.random.default_rng(0)
    for length, tile in rng.integers((1, 64), (100_000, 1024), size=(1000, 2)).tolist():
        overlap = int(rng.integers(0, tile // 2 + 1))
        fewest = max(1, -(-(length - overlap) // (tile - overlap)))
        assert tile_count(length, tile, overlap) <= fewest


def test_the_overlap_shrinks_a_little_to_save_a_row() -> None:
    assert tile_count(8192, 512, 64) == 18  # not ceil((8192 - 64) / 448) = 19
    lattice = Lattice.of((1, 8192, 8192), 512, 64)
    assert round(lattice.redundancy, 2) == 1.27


@settings(max_examples=60)
@given(
    rows=st.integers(1, 200),
    columns=st.integers(1, 200),
    planes=st.integers(1, 3),
    sides=st.tuples(st.sampled_from([1, 2]), st.sampled_from([32, 64]), st.sampled_from([32, 128])),
    batch=st.integers(1, 5),
)
def test_every_block_gets_its_tiles_and_every_tile_one_owner(
    rows: int, columns: int, planes: int, sides: tuple[int, int, int], batch: int
) -> None:
    lattice = Lattice.of((planes, rows, columns), 64, 16)
    plan = Plan(lattice, sides, batch)
    owned = [tile for block in plan.blocks() for tile in plan.owned(block)]
    assert sorted(owned) == list(lattice)
    for block in plan.blocks():
        needed = plan.touching(block)
        computed = {tile for one in plan.batches(block) for tile in one}
        assert set(needed) <= computed
        assert all(block in plan.blocks_of(tile) for tile in needed)
    assert Plan.from_dict(plan.to_dict()) == plan


@settings(max_examples=30)
@given(seed=st.integers(0, 99), overlap=st.sampled_from([0, 8, 16, 32]))
def test_a_block_does_not_depend_on_the_order_of_its_tiles(seed: int, overlap: int) -> None:
    rng = np.random.default_rng(seed)
    lattice = Lattice.of((1, 130, 150), 64, overlap)
    window = (0, 130, 0, 150)
    parts: list[Contribution] = []
    for tile in lattice:
        top, bottom, left, right = lattice.window(tile)
        answer = rng.random((2, 64, 64), dtype=np.float32)
        valid = np.ones((bottom - top, right - left), bool)
        part = contribute(lattice, tile, window, answer, valid)
        assert part is not None
        parts.append(part)
    found = []
    for order in (range(len(parts)), rng.permutation(len(parts))):
        buffer = BlockBuffer(
            lattice, window, np.zeros((2, 130, 150), np.uint8), np.zeros((130, 150), np.uint8)
        )
        for index in order:
            buffer.add(parts[index])
        found.append(buffer.finish()[0])
    assert np.array_equal(found[0], found[1])


def test_blocks_keep_their_size_whatever_the_scene() -> None:
    assert block_shape((1, 8192, 8192), 2) == block_shape((1, 65536, 65536), 2) == (1, 2048, 2048)
    assert block_shape((1, 512, 200_000), 2) == (1, 512, 2048)
    assert block_shape((824, 512, 512), 2)[0] == 16
    for prompts in (1, 2, 20, 117, 1000):
        depth, height, width = block_shape((1, 9000, 9000), prompts)
        assert depth * height * width * prompts <= max(32 << 20, prompts << 16)
    settings = SegmentSettings(tile=64, overlap=16)
    plan = Plan.make((1, 100, 100), 1, settings)
    assert plan.window(Block(0, 0, 0)) == (0, 100, 0, 100)
