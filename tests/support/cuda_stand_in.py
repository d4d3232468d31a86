"""A CUDA device that is none: tensors in the CPU's memory that say they are elsewhere, and a stream that runs on call.

What is queued is computed at once; what a stand-in shows is whether anybody waits for it before `Stream.run`.
"""

from __future__ import annotations

import sys
import threading
from types import ModuleType
from typing import Any

import pytest
import torch

WAIT_S = 60.0
WAITS = frozenset(
    {
        *("item", "tolist", "cpu", "numpy", "nonzero", "is_nonzero", "equal", "masked_select", "unique"),
        *("__float__", "__int__", "__bool__", "__index__", "__array__", "__contains__"),
    }
)


class CudaTensor(torch.Tensor):
    """A tensor that may be queued, but not looked at."""

    is_cuda = True  # type: ignore[assignment]
    is_cpu = False  # type: ignore[assignment]

    @classmethod
    def waited_for(cls, how: str) -> None:
        """Refuses to be looked at."""
        raise AssertionError(f"{how} waits for the device")

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in WAITS:
            cls.waited_for(func.__name__)
            plain = [arg.as_subclass(torch.Tensor) if isinstance(arg, torch.Tensor) else arg for arg in args]
            return func(*plain, **(kwargs or {}))
        if func is torch.Tensor.copy_:  # into the host's memory, which stays what it is
            return args[0].copy_(args[1].as_subclass(torch.Tensor))
        return super().__torch_function__(func, types, args, kwargs or {})


def on_cuda(values: Any, **options: Any) -> Any:
    """Returns a tensor on the stand-in's device."""
    return torch.tensor(values, **options).as_subclass(CudaTensor)


class Stream:
    """A stream: what was queued has run once `run` was called; with nothing else to do, it is `idle`, at once.

    One that `failed` has an error for whoever asks.
    """

    def __init__(self) -> None:
        self.events: list[threading.Event] = []
        self.capturing = False
        self.idle = False
        self.failed = False
        self.waits = 0

    def run(self, count: int | None = None) -> None:
        """Runs what was queued, or the first `count` copies of it."""
        for event in self.events[:count]:
            event.set()
        del self.events[:count]


class StreamEvent:
    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._fired = threading.Event()

    def record(self, stream: Stream) -> None:
        self._fired = threading.Event()
        stream.events.append(self._fired)
        if stream.idle:
            stream.run()

    def query(self) -> bool:
        if self._stream.failed:
            raise RuntimeError("CUDA error: device-side assert triggered")
        return self._fired.is_set()

    def synchronize(self) -> None:
        self._stream.waits += 1
        if not self._fired.wait(WAIT_S):
            raise AssertionError("the stand-in's stream was never run")


def stand_in(monkeypatch: pytest.MonkeyPatch) -> Stream:
    """Puts the device in torch's place, as the core sees torch, and returns its stream."""
    stream = Stream()

    class Cuda:
        def __getattr__(self, name: str) -> Any:
            return getattr(torch.cuda, name)

        def is_current_stream_capturing(self) -> bool:
            return stream.capturing

        def current_stream(self, device: Any) -> Stream:
            return stream

        def Event(self, *, blocking: bool) -> StreamEvent:  # noqa: N802
            return StreamEvent(stream)

    class Torch(ModuleType):
        cuda = Cuda()

        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

        def empty(self, size: Any, *, dtype: Any, pin_memory: bool) -> Any:
            assert pin_memory, "a copy into memory that is not pinned waits"
            return torch.empty(size, dtype=dtype)

    fake: Any = Torch("torch")
    monkeypatch.setitem(sys.modules, "torch", fake)
    return stream
