"""The queue between two threads: bounded by what waits and by what is worked on."""

from __future__ import annotations

import threading

import pytest

from digseg.engine.channel import Channel, Closed


def puts(channel: Channel[int], item: int, size: int) -> tuple[threading.Thread, threading.Event]:
    done = threading.Event()

    def work() -> None:
        channel.put(item, size)
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    return thread, done


def test_what_the_taker_works_on_counts_until_it_asks_for_more() -> None:
    channel: Channel[int] = Channel(100)
    channel.put(1, 90)
    assert channel.get() == 1
    thread, done = puts(channel, 2, 90)
    assert not done.wait(0.2), "two large items are in memory"
    channel.put(3)  # nothing but a sign: never waits behind bytes that fit
    assert channel.get() == 3
    thread.join(10)
    assert done.is_set()
    assert channel.get() == 2


def test_one_item_larger_than_the_limit_goes_through() -> None:
    channel: Channel[int] = Channel(10)
    channel.put(1, 500)
    channel_end = threading.Thread(target=lambda: (channel.put(2, 500), channel.end()))
    channel_end.start()
    assert [channel.get(), channel.get()] == [1, 2]
    channel_end.join(10)
    with pytest.raises(Closed):
        channel.get()


def test_room_is_waited_for_before_a_large_item_is_made() -> None:
    channel: Channel[int] = Channel(100)
    channel.put(1, 90)
    roomy = threading.Event()

    def work() -> None:
        channel.wait_for_room(90)
        roomy.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert channel.get() == 1
    assert not roomy.wait(0.2), "the first is still worked on"
    channel.release()  # though no other is asked for
    thread.join(10)
    assert roomy.is_set()
    channel.put(2, 90)
    channel.abort()
    with pytest.raises(Closed):
        channel.wait_for_room(90)


def test_abort_frees_both_ends() -> None:
    channel: Channel[int] = Channel(10)
    channel.put(1, 10)
    failures: list[type[BaseException]] = []

    def work() -> None:
        try:
            channel.put(2, 10)
        except Closed as error:
            failures.append(type(error))

    thread = threading.Thread(target=work)
    thread.start()
    channel.abort()
    thread.join(10)
    assert failures == [Closed]
    with pytest.raises(Closed):
        channel.get()
