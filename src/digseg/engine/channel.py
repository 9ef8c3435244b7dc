"""A queue between two threads, bounded by bytes, that both ends can break off."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Closed(Exception):  # noqa: N818 - a signal, no fault
    """The other side is gone: stop."""


class Channel(Generic[Item]):
    """First in, first out; at most ``limit`` bytes, but always one item.

    What was taken counts until the next is asked for, or `release` is called: the taker is at work
    on it, so it is still in memory.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: deque[tuple[Item, int]] = deque()
        self._bytes = self._taken = 0
        self._ended = False
        self._aborted = False
        self._changed = threading.Condition()

    def put(self, item: Item, size: int = 0) -> None:
        """Add an item; waits while the channel is full. `Closed` after `abort`."""
        with self._changed:
            self._changed.wait_for(lambda: self._aborted or self._fits(size))
            if self._aborted:
                raise Closed
            self._items.append((item, size))
            self._bytes += size
            self._changed.notify_all()

    def wait_for_room(self, size: int) -> None:
        """Wait until an item of ``size`` could be put; the one thread that puts asks this before
        it makes a large one. `Closed` after `abort`."""
        with self._changed:
            self._changed.wait_for(lambda: self._aborted or self._fits(size))
            if self._aborted:
                raise Closed

    def release(self) -> None:
        """The taker no longer holds what it took, though it may still be at work on it."""
        with self._changed:
            self._forget_taken()

    def _fits(self, size: int) -> bool:
        return self._bytes == 0 or self._bytes + size <= self._limit

    def _forget_taken(self) -> None:
        self._bytes -= self._taken
        self._taken = 0
        self._changed.notify_all()

    def get(self) -> Item:
        """Take the oldest item. `Closed` after `abort`, or after `end` once all are taken."""
        with self._changed:
            self._forget_taken()
            self._changed.wait_for(lambda: self._aborted or self._ended or bool(self._items))
            if self._aborted or not self._items:
                raise Closed
            item, self._taken = self._items.popleft()
            return item

    def end(self) -> None:
        """No more items will come; those inside are still delivered."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def abort(self) -> None:
        """Stop both sides at once."""
        with self._changed:
            self._aborted = True
            self._items.clear()
            self._changed.notify_all()
