"""What viewer and engine say to each other: one JSON object on a line. No pickle, no Qt."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import asdict
from typing import IO, Any

import numpy as np

from digseg import events
from digseg.events import Event
from digseg.types import AnyArray

Message = dict[str, Any]

_EVENTS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        events.StageStarted,
        events.StageAdvanced,
        events.RunPlanned,
        events.BlockWritten,
        events.TileFailed,
        events.Notice,
        events.RunFinished,
    )
}


def write(stream: IO[bytes], message: Message) -> None:
    """Send a message; raises `BrokenPipeError` when the other side is gone."""
    stream.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
    stream.flush()


def read(line: bytes) -> Message:
    """The message on a line; raises `ValueError` when it is none."""
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError(f"no message: {line[:80]!r}")
    return message


def event_message(event: Event) -> Message | None:
    """An event as a message; `None` for a kind that a viewer has no use for."""
    name = type(event).__name__
    return {"say": "event", "kind": name, **asdict(event)} if name in _EVENTS else None


def event_of(message: Message) -> Event:
    """Inverse of `event_message`."""
    values = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in message.items()
        if key not in ("say", "kind", "run")
    }
    return _EVENTS[message["kind"]](**values)


def pack(array: AnyArray) -> Message:
    """A small array as text."""
    return {
        "shape": list(array.shape),
        "dtype": array.dtype.str,
        "data": base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 1)).decode(),
    }


def unpack(packed: Message) -> AnyArray:
    """Inverse of `pack`."""
    data = zlib.decompress(base64.b64decode(packed["data"]))
    return np.frombuffer(data, dtype=np.dtype(packed["dtype"])).reshape(packed["shape"])
