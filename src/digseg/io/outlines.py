"""Outlines of regions as polygons, from the corners that are found block by block.

A region of pixels has a rectilinear outline, so its corners say it all: in each row of grid
points the corners of a region, sorted by column, are the ends of horizontal sides, two by two; in
each column those of vertical sides. From corner to corner, alternating, one walks around a ring.
Nothing is cut where blocks meet, because corners know of no blocks, and all of it is sorting.

Where two pixels of a region touch only at a corner point, two rings meet there: the walk crosses
to the other pixel, so that no ring touches itself and every polygon is valid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from digseg.types import AnyArray

Int64Array = NDArray[np.int64]

#: Pixels around a grid point, clockwise: upper left, upper right, lower right, lower left.
_ROUND = ((0, 0), (0, 1), (1, 1), (1, 0))


class Corners:
    """Collects the corners of all regions.

    Parameters
    ----------
    shape
        Rows and columns of the raster.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._width = shape[1] + 1
        self._place: list[Int64Array] = []
        self._around: list[AnyArray] = []

    def add(self, top: int, left: int, labels: AnyArray, numbers: AnyArray) -> None:
        """Add the grid points inside a window.

        Parameters
        ----------
        top, left
            The grid point between the first four pixels of the window.
        labels, numbers
            Labels and region numbers ``[y, x]`` (0 for background), with a row above and a column
            before those grid points and, where the raster ends, one below and behind.
        """
        across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
        # Neighbours of equal labels are one region: at a corner something changes both ways.
        turns = (across[:-1] | across[1:]) & (down[:, :-1] | down[:, 1:])
        row, column = np.nonzero(turns)
        around = [numbers[row + i, column + j].astype(np.int32) for i, j in _ROUND]
        self._place.append((row + top) * self._width + (column + left))
        self._around.append(np.stack(around))

    def polygons(self, region: Int64Array, count: int, *, nodes: bool = False) -> AnyArray:
        """Valid polygons of all regions in pixel coordinates (column, row), holes kept.

        Parameters
        ----------
        region
            Index of the polygon for each region number; the first entry, for background, is
            not looked at.
        count
            How many polygons there are.
        nodes
            Also set a point where the borders of two others end at a straight side, so that
            neighbours have the same points along the border that they share.
        """
        import shapely

        if not count:
            return np.zeros(0, dtype=object)
        points = np.concatenate(self._place)
        numbers = np.concatenate(self._around, axis=1)
        around = np.where(numbers > 0, region[numbers], -1)
        self._place, self._around = [], []
        owner, place, quadrant, begins = _corners(points, around, nodes=nodes)
        ring, order, sides = _rings(owner, place, quadrant, begins, self._width)
        ring, order = _shells_first(ring, order, sides, owner, place, self._width)
        # A ring is told by the two ends of each of its horizontal sides.
        corners, rings_of = np.stack([place[order], place[sides[order]]], axis=1).ravel(), ring
        rings_of = np.repeat(ring, 2)
        if nodes:  # between the two halves of a straight side lies a side of no length
            moves = np.append(True, (np.diff(corners) != 0) | (np.diff(rings_of) != 0))
            corners, rings_of = corners[moves], rings_of[moves]
        row, column = np.divmod(corners, self._width)
        rings = shapely.linearrings(
            np.column_stack([column, row]).astype(np.float64), indices=rings_of
        )
        firsts = np.flatnonzero(np.diff(ring, prepend=-1))
        return np.asarray(shapely.polygons(rings, indices=owner[order][firsts]))


def _corners(
    points: Int64Array, around: AnyArray, *, nodes: bool
) -> tuple[Int64Array, Int64Array, AnyArray, AnyArray]:
    """Corners from the regions around each grid point: region, grid point, quadrant, and whether
    a horizontal side begins there when one walks with the region on the right.

    The two sides that meet in a corner enclose one of the four quadrants: that of the region's
    only pixel, or that of the only pixel, or one of the two, that the region lacks. A node of a
    straight side counts as two corners, in the two quadrants that the region has.
    """
    found: list[tuple[AnyArray, ...]] = []
    for own in range(4):
        region, after, opposite, before = (around[(own + step) % 4] for step in range(4))
        beside, across = (after == region, before == region), opposite == region
        alone = ~beside[0] & ~beside[1] & ~across
        middle = beside[0] & beside[1] & ~across
        diagonal = ~beside[0] & ~beside[1] & across  # its other pixel adds the other quadrant
        kinds = [
            (alone, own, True),
            (middle, (own + 2) % 4, False),
            (diagonal, (own + 1) % 4, False),
        ]
        if nodes:
            straight = beside[0] & ~beside[1] & ~across
            kinds += [(straight, own, True), (straight, (own + 1) % 4, True)]
        for chosen, quadrant, inside in kinds:
            where = np.flatnonzero(chosen & (region >= 0))
            begins = (quadrant % 2 == 0) == inside
            found.append((
                region[where].astype(np.int64), points[where],
                np.full(len(where), quadrant, np.int8), np.full(len(where), begins),
            ))  # fmt: skip
    owners, places, quadrants, starts = (np.concatenate(part) for part in zip(*found, strict=True))
    return owners, places, quadrants, starts


def _rings(
    owner: Int64Array, place: Int64Array, quadrant: AnyArray, begins: AnyArray, width: int
) -> tuple[Int64Array, Int64Array, Int64Array]:
    """The ring of each corner where a horizontal side begins, those corners in walking order, and
    for every corner the other end of its horizontal side.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    # Quadrants 1 and 2 lie right of the point, 2 and 3 below it: of two corners at one point the
    # one whose side comes from the left (from above) is the earlier.
    row, column = np.divmod(place, width)
    sides = _partners(np.lexsort(((quadrant == 1) | (quadrant == 2), place, owner)))
    height = int(row.max()) + 1
    down = _partners(np.lexsort((quadrant >= 2, column * height + row, owner)))
    starts = np.flatnonzero(begins)
    index = np.zeros(len(owner), np.int64)
    index[starts] = np.arange(len(starts))
    following = index[down[sides[starts]]]
    ones = np.ones(len(starts), np.uint8)
    graph = coo_matrix((ones, (np.arange(len(starts)), following)), shape=(len(starts),) * 2)
    count, ring = connected_components(graph, directed=False)
    order = np.lexsort((-_steps_left(following, ring, count), ring))
    return ring[order].astype(np.int64), starts[order], sides


def _partners(order: Int64Array) -> Int64Array:
    """Sorted corners are the ends of sides, two by two: the other end of each."""
    partners = np.empty(len(order), np.int64)
    partners[order[::2]], partners[order[1::2]] = order[1::2], order[::2]
    return partners


def _steps_left(following: Int64Array, ring: AnyArray, count: int) -> Int64Array:
    """How many steps each corner is from the last one of its ring, by doubling the stride."""
    last = np.zeros(count, np.int64)
    last[ring] = np.arange(len(ring))
    target = last[ring]
    ahead = following.copy()
    steps = np.ones(len(ring), np.int64)
    ahead[last], steps[last] = last, 0
    going = np.flatnonzero(ahead != target)
    while len(going):
        # All are read before any is written: the stride is the same for all that go on.
        more, next_ = steps[ahead[going]], ahead[ahead[going]]
        steps[going] += more
        ahead[going] = next_
        going = going[next_ != target[going]]
    return steps


def _shells_first(
    ring: Int64Array, order: Int64Array, sides: Int64Array,
    owner: Int64Array, place: Int64Array, width: int,
) -> tuple[Int64Array, Int64Array]:  # fmt: skip
    """Rings numbered by region, the outer one first, and their corners in that order."""
    firsts = np.flatnonzero(np.diff(ring, prepend=-1))
    row, column = np.divmod(place[order], width)
    # With the region on the right, what is walked eastward is above what is walked westward in
    # an outer ring, and below it in a hole.
    area = np.add.reduceat((place[sides[order]] % width - column) * row, firsts)
    rank = np.lexsort((area > 0, owner[order][firsts]))
    lengths = np.diff(np.append(firsts, len(ring)))
    moved = np.repeat(firsts[rank], lengths[rank])
    begun = np.repeat(np.cumsum(lengths[rank]) - lengths[rank], lengths[rank])
    return np.repeat(np.arange(len(rank)), lengths[rank]), order[
        moved + np.arange(len(ring)) - begun
    ]
