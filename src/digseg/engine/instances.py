"""Instances: connected components over blocks, equal to one whole `scipy.ndimage.label`.

One pass, block by block: it labels every block by itself and joins the labels
that touch across block borders in a union-find; it keeps the border planes of blocks whose later
neighbours are still to come, nothing else. Then the components are numbered without gaps. The rest
is lazy: a window is labelled again from the mask and mapped to the final ids. Memory: O(labels on
block borders).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digseg.types import AnyArray, LazyArray

Ids = NDArray[np.int64]
_DEFAULT_BLOCK = {2: (2048, 2048), 3: (64, 512, 512)}


class UnionFind:
    """Disjoint sets of labels; the smallest label stands for its set."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}

    def find(self, label: int) -> int:
        """The label that stands for the set of ``label``."""
        parent = self._parent
        root = label
        while (above := parent.get(root, root)) != root:
            root = above
        while (above := parent.get(label, label)) != root and label != root:
            parent[label] = root
            label = above
        return root

    def join(self, first: int, second: int) -> None:
        """Make one set of two."""
        one, other = self.find(first), self.find(second)
        if one != other:
            self._parent[max(one, other)] = min(one, other)

    def joined(self) -> Iterator[int]:
        """Labels that another one stands for."""
        yield from self._parent


@dataclass(frozen=True)
class _Block:
    window: tuple[slice, ...]
    place: tuple[int, ...]


class Instances:
    """Instance ids of one class, ``int64``, computed for the window that is asked for.

    Use `instances`. Ids are 1 .. `count`; 0 is everything else.
    """

    dtype = np.dtype(np.int64)

    def __init__(
        self, labels: LazyArray, value: int | None, block: tuple[int, ...], diagonal: bool
    ) -> None:
        self._labels, self._value = labels, value
        self.shape = tuple(int(side) for side in labels.shape)
        self._side = block
        self._structure = np.ones((3,) * len(self.shape), bool) if diagonal else None
        self._diagonal = diagonal
        self._blocks = list(_blocks(self.shape, block))
        self._offsets: list[int] = []
        self._sets = UnionFind()
        self._first_pass()
        self._gaps = np.array(sorted(self._sets.joined()), dtype=np.int64)
        self.count = int(self._total - len(self._gaps))

    def __getitem__(self, key: Any, /) -> AnyArray:
        parts = key if isinstance(key, tuple) else (key,)
        parts += (slice(None),) * (len(self.shape) - len(parts))
        spans = [
            range(side)[part] if isinstance(part, slice) else range(part, part + 1)
            for part, side in zip(parts, self.shape, strict=True)
        ]
        if any(span.step != 1 for span in spans):
            raise IndexError("instances are read by contiguous windows")
        out: Ids = np.zeros([len(span) for span in spans], dtype=np.int64)
        for index, block in enumerate(self._blocks):
            inner, outer = [], []
            for span, own in zip(spans, block.window, strict=True):
                start, stop = max(span.start, own.start), min(span.stop, own.stop)
                inner.append(slice(start - own.start, stop - own.start))
                outer.append(slice(start - span.start, stop - span.start))
            if all(piece.start < piece.stop for piece in inner):
                out[tuple(outer)] = self._final(index)[tuple(inner)]
        dropped = tuple(0 if not isinstance(part, slice) else slice(None) for part in parts)
        return out[dropped]

    def _mask(self, block: _Block) -> NDArray[np.bool_]:
        values = np.asarray(self._labels[block.window])
        if self._value is None:
            return np.asarray(values != 0)
        return np.asarray(values == self._value)

    def _local(self, block: _Block) -> tuple[Ids, int]:
        from scipy import ndimage

        found, count = ndimage.label(self._mask(block), structure=self._structure)
        return found.astype(np.int64), int(count)

    def _first_pass(self) -> None:
        """Label the blocks one by one and join what touches across their borders."""
        counts = [-(-length // step) for length, step in zip(self.shape, self._side, strict=True)]
        shells: dict[tuple[int, ...], _Shell] = {}
        total = 0
        for block in self._blocks:
            self._offsets.append(total)
            local, count = self._local(block)
            local[local > 0] += total
            total += count
            shell = shells[block.place] = _shell(local)
            for offset in _earlier(len(self.shape), self._diagonal):
                other = shells.get(tuple(np.add(block.place, offset).tolist()))
                if other is not None:
                    _join(self._sets, _touching(other, offset, -1), _touching(shell, offset, 1),
                          self._diagonal)  # fmt: skip
            # The last block that looks at a shell is the one after it along every axis.
            over = [
                (at - 1, at) if at == end - 1 else (at - 1,)
                for at, end in zip(block.place, counts, strict=True)
            ]
            for place in product(*over):
                shells.pop(place, None)
        self._total = total

    def _final(self, index: int) -> Ids:
        """Final ids of a block."""
        local, count = self._local(self._blocks[index])
        offset = self._offsets[index]
        table = np.arange(offset, offset + count + 1, dtype=np.int64)
        first, last = np.searchsorted(self._gaps, (offset, offset + count), side="right")
        for label in self._gaps[first:last].tolist():
            table[label - offset] = self._sets.find(label)
        table -= np.searchsorted(self._gaps, table, side="right")
        table[0] = 0
        return table[local]


def instances(
    labels: LazyArray,
    value: int | None = None,
    *,
    block: tuple[int, ...] | None = None,
    diagonal: bool = False,
) -> Instances:
    """Number the connected components of one class.

    Parameters
    ----------
    labels
        ``[y, x]`` or ``[z, y, x]``; read block by block.
    value
        Label whose instances are wanted; `None` takes every label but 0 as one class.
    block
        Sides of the blocks; the ids are the same up to a permutation whatever they are.
    diagonal
        Pixels that touch at a corner belong together (8 and 26 neighbours, not 4 and 6).

    Returns
    -------
    Lazy ids with ``.count``; equal to `scipy.ndimage.label` up to a permutation.
    """
    sides = tuple(int(side) for side in labels.shape)
    if len(sides) not in (2, 3):
        raise ValueError(f"labels are [y, x] or [z, y, x], not {sides}")
    chosen = block or _DEFAULT_BLOCK[len(sides)]
    return Instances(labels, value, chosen, diagonal)


def _blocks(shape: tuple[int, ...], side: tuple[int, ...]) -> Iterator[_Block]:
    counts = [-(-length // step) for length, step in zip(shape, side, strict=True)]
    for place in np.ndindex(*counts):
        window = tuple(
            slice(i * step, min(length, (i + 1) * step))
            for i, step, length in zip(place, side, shape, strict=True)
        )
        yield _Block(window, tuple(place))


_Shell = dict[tuple[int, int], Ids]


def _shell(local: Ids) -> _Shell:
    """First (-1) and last (1) plane of a block along each axis."""
    return {
        (axis, side): np.take(local, 0 if side < 0 else -1, axis=axis)
        for axis in range(local.ndim)
        for side in (-1, 1)
    }


def _earlier(axes: int, diagonal: bool) -> list[tuple[int, ...]]:
    """Offsets to the neighbour blocks that come before a block, row by row."""
    every = [tuple(i - 1 for i in place) for place in np.ndindex(*(3,) * axes)]
    before = [offset for offset in every if offset < (0,) * axes]
    return before if diagonal else [o for o in before if sum(map(abs, o)) == 1]


def _touching(shell: _Shell, offset: tuple[int, ...], sign: int) -> Ids:
    """What a block shows to a neighbour: a plane, a row or a corner.

    ``offset`` leads to the earlier block; ``sign`` is 1 for the later block (it shows the side
    towards the offset), -1 for the earlier one (it shows the opposite side).
    """
    axis = next(index for index, step in enumerate(offset) if step)
    face = shell[axis, offset[axis] * sign]
    rest = offset[axis + 1 :]
    # Axes before `axis` have no offset; along those after it with one, the border alone is left.
    cut = [slice(None)] * axis + [
        slice(None) if step == 0 else (0 if step * sign < 0 else -1) for step in rest
    ]
    return np.asarray(face[tuple(cut)])


def _join(sets: UnionFind, one: Ids, other: Ids, diagonal: bool) -> None:
    """Join labels that face each other, with ``diagonal`` also across one pixel sideways."""
    shifts = list(np.ndindex(*(3,) * one.ndim)) if diagonal else [(1,) * one.ndim]
    for shift in shifts:
        here, there = [], []
        for step, length in zip(shift, one.shape, strict=True):
            move = step - 1
            here.append(slice(max(0, -move), length - max(0, move)))
            there.append(slice(max(0, move), length - max(0, -move)))
        a, b = one[tuple(here)], other[tuple(there)]
        both = (a > 0) & (b > 0)
        pairs = np.unique(np.stack([a[both], b[both]], axis=-1), axis=0)
        for first, second in pairs.tolist():
            sets.join(first, second)
