"""Values on their way from a CUDA device: asynchronous copies, and an event that fires behind them.

This is all that the core knows of CUDA; torch is taken from `sys.modules`, where whoever has such a tensor has put it.
No call here waits for the device, except `wait`.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

_SLOTS: Final = 64
_ALIGNED: Final = 64
_RELAXED: Final = 2
_DRIVERS: Final = (
    ("libcuda.so.1", "cuThreadExchangeStreamCaptureMode"),
    ("nvcuda.dll", "cuThreadExchangeStreamCaptureMode"),
    ("libamdhip64.so", "hipThreadExchangeStreamCaptureMode"),
)


class CaptureError(Exception):
    """A CUDA graph is being captured: what is queued now is not computed."""


class _Slot(NamedTuple):
    """Pinned memory for the figures of one call, and the event of its copy."""

    key: tuple[Any, Any, int]
    host: Any
    event: Any


class _Part(NamedTuple):
    slot: _Slot
    places: list[int]


class Copy:
    """The figures of one call, on their way.

    Args:
        parts: One for each device.
        free: Where the slots go back to.
    """

    def __init__(self, parts: list[_Part], free: dict[tuple[Any, Any, int], list[_Slot]]) -> None:
        self._parts = parts
        self._free = free

    def arrived(self) -> bool:
        """Whether the figures are there.

        Raises:
            RuntimeError: The device has failed.
        """
        return all(part.slot.event.query() for part in self._parts)

    def wait(self) -> None:
        """Waits until they are, without the interpreter's lock.

        Raises:
            RuntimeError: The device has failed.
        """
        for part in self._parts:
            part.slot.event.synchronize()

    def figures(self) -> list[float]:
        """Returns them in the order they were given, once they have arrived; to be called once."""
        found: dict[int, float] = {}
        for slot, places in self._parts:
            found.update(zip(places, map(float, slot.host[: len(places)].tolist()), strict=True))
            self._free[slot.key].append(slot)
        return [found[place] for place in range(len(found))]


class WholeCopy:
    """Tensors of any shape, on their way.

    Args:
        hosts: Where they arrive: tensors in pinned memory, of the same shapes and types.
        events: Those that fire behind them, one for each device.
    """

    def __init__(self, hosts: list[Any], events: list[Any]) -> None:
        self._hosts = hosts
        self._events = events

    def arrived(self) -> bool:
        """See `Copy.arrived`."""
        return all(event.query() for event in self._events)

    def wait(self) -> None:
        """See `Copy.wait`."""
        for event in self._events:
            event.synchronize()

    def figures(self) -> list[Any]:
        """Returns the tensors in the host's memory."""
        return self._hosts


class DeviceCopies:
    """Starts copies from CUDA devices; keeps the pinned memory, which is slow to get, for those to come."""

    def __init__(self) -> None:
        self._free: dict[tuple[Any, Any, int], list[_Slot]] = {}

    def start(self, tensors: Sequence[Any]) -> Copy:
        """Queues one copy for each device, behind what its current stream has to do, and returns at once.

        Args:
            tensors: CUDA tensors of one element each.

        Raises:
            CaptureError: The current stream is being captured.
            RuntimeError: The device has failed.
        """
        if not tensors:
            return Copy([], self._free)
        torch = _torch()
        by_device: dict[Any, list[int]] = {}
        for place, tensor in enumerate(tensors):
            by_device.setdefault(tensor.device, []).append(place)
        with torch.no_grad():
            return Copy(
                [
                    self._start(torch, device, [tensors[place] for place in places], places)
                    for device, places in by_device.items()
                ],
                self._free,
            )

    def start_whole(self, tensors: Sequence[Any]) -> WholeCopy:
        """Queues copies of whole tensors, each behind what its device's current stream has to do, and returns at once.

        They arrive in one piece of pinned memory, which torch keeps for those to come when it is let go.

        Args:
            tensors: CUDA tensors.

        Raises:
            CaptureError: The current stream is being captured.
            RuntimeError: The device has failed, or the memory cannot be had.
        """
        torch = _torch()
        sizes = [tensor.numel() * tensor.element_size() for tensor in tensors]
        room = torch.empty((sum(map(_aligned, sizes)),), dtype=torch.uint8, pin_memory=True)
        hosts, at = [], 0
        with torch.no_grad():
            for tensor, size in zip(tensors, sizes, strict=True):
                host = room[at : at + size].view(tensor.dtype).view(tensor.shape)
                host.copy_(tensor, non_blocking=True)
                hosts.append(host)
                at += _aligned(size)
        events = []
        for device in {tensor.device for tensor in tensors}:
            event = torch.cuda.Event(blocking=True)
            event.record(torch.cuda.current_stream(device))
            events.append(event)
        return WholeCopy(hosts, events)

    def _start(self, torch: Any, device: Any, tensors: list[Any], places: list[int]) -> _Part:
        # Of one type they keep their own, which no conversion can round; of several, float64 holds them all.
        if len({tensor.dtype for tensor in tensors}) > 1:
            tensors = [tensor.double() for tensor in tensors]
        joined = torch.stack([tensor if tensor.dim() == 0 else tensor.reshape(()) for tensor in tensors])
        slot = self._slot(torch, device, joined.dtype, len(tensors))
        slot.host[: len(tensors)].copy_(joined, non_blocking=True)
        slot.event.record(torch.cuda.current_stream(device))
        return _Part(slot, places)

    def _slot(self, torch: Any, device: Any, dtype: Any, count: int) -> _Slot:
        size = 1 << max(5, (count - 1).bit_length())
        key = (device, dtype, size)
        slots = self._free.setdefault(key, [])
        try:
            return slots.pop()
        except IndexError:
            hosts = torch.empty((_SLOTS, size), dtype=dtype, pin_memory=True).unbind()
            # A blocking event lets whoever waits for it sleep, where another one would keep a core busy.
            slots.extend(_Slot(key, host, torch.cuda.Event(blocking=True)) for host in hosts[1:])
            return _Slot(key, hosts[0], torch.cuda.Event(blocking=True))


def _torch() -> Any:
    """Returns torch, where its current stream may be asked to copy."""
    torch = sys.modules["torch"]
    if torch.cuda.is_current_stream_capturing():
        raise CaptureError("a CUDA graph is being captured: log its values after the replay")
    return torch


def _aligned(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED


def may_wait_beside_captures() -> bool:
    """Whether this thread may ask CUDA for events while another one captures a graph, from now on.

    By default such a question, from any thread, makes the capture fail. The driver's function that says otherwise is
    not among torch's own; where it cannot be had, nobody may ask beside the threads that log.
    """
    for library, name in _DRIVERS:
        try:
            exchange = getattr(ctypes.CDLL(library), name)
        except (OSError, AttributeError):
            continue
        if exchange(ctypes.byref(ctypes.c_int(_RELAXED))) == 0:
            return True
    return False
