"""Sending many small things in few requests, and finding the one a store refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

MAX_REQUEST_BYTES = 900_000
"""MLflow takes requests of up to 1 MB; the rest is for what surrounds the entries."""

_ENOUGH_REFUSALS = 16


def chunks(items: Iterable[T], count: int, size_of: Callable[[T], int]) -> Iterator[Sequence[T]]:
    """Yields `items` in order, in chunks of at most `count` and about `MAX_REQUEST_BYTES`."""
    chunk: list[T] = []
    size = 0
    for item in items:
        item_size = size_of(item)
        if chunk and (len(chunk) >= count or size + item_size > MAX_REQUEST_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(item)
        size += item_size
    if chunk:
        yield chunk


def json_size(*texts: str) -> int:
    """Returns about how many bytes `texts` take in a JSON request, where what is not ASCII is escaped."""
    return 120 + sum(len(text) if text.isascii() else 6 * len(text) for text in texts)


def sift(
    items: Sequence[T], send: Callable[[Sequence[T]], None], refused: type[Exception]
) -> list[tuple[T, Exception]]:
    """Sends `items`; where the store refuses them as a whole, sends all but the culprits.

    A store refuses a batch for one bad entry. Halving finds it in few requests. Where each one is refused by itself
    and none is taken, the rest is given up without asking: the cause is not an entry.

    Args:
        items: What to send, at least one.
        send: Sends them in one request, raising `refused` where the store refuses it.
        refused: The error that means so; any other passes through.

    Returns:
        The refused ones, each with the store's reason.
    """
    culprits: list[tuple[T, Exception]] = []
    taken = 0
    pending = [items]
    while pending:
        part = pending.pop()
        if not taken and len(culprits) >= _ENOUGH_REFUSALS:
            culprits += [(item, culprits[-1][1]) for item in part]
            continue
        try:
            send(part)
            taken += len(part)
        except refused as error:
            if len(part) == 1:
                culprits.append((part[0], error))
            else:
                half = len(part) // 2
                pending += [part[half:], part[:half]]
    return culprits
