"""Gradient norms, overheard from ``torch.nn.utils.clip_grad_norm_``, which returns them to algorithms that drop them.

There is one stand-in for that function in a process, shared by all that listen, and only while somebody listens. Each
hears of the thread that it started in, and of no other; whoever else calls the function gets what they always got.
"""

from __future__ import annotations

import sys
import threading
from typing import Any, Final

from rl_logging.extraction.device_slot import added

_NAME: Final = "clip_grad_norm_"
_KEPT_MOST: Final = 256
_ADDED_FEWEST: Final = 4

_lock = threading.RLock()
_standin: _StandIn | None = None


class GradientNorms:
    """Collects the norms of the gradients that the thread clips, between `start` and `stop`.

    A norm is the one before the clipping. It stays on its device until it is asked for, so that a training never waits
    for it; many are added up there, so that they take no more memory than a few.

    Without torch, or where nothing is clipped, there are none.
    """

    def __init__(self) -> None:
        self._norms: list[Any] = []
        self._sums: list[tuple[Any, int]] = []
        self._thread: int | None = None

    def start(self) -> None:
        """Begins to listen to the calling thread. Idempotent; norms collected before are kept."""
        global _standin
        utils = _torch_utils()
        if utils is None:
            return
        with _lock:
            self._thread = threading.get_ident()
            if _standin is None or vars(utils).get(_NAME) is not _standin:
                listeners = () if _standin is None else _standin.retire()
                _standin = _StandIn(utils, tuple(other for other in listeners if other is not self))
            if self not in _standin.listeners:
                _standin.listeners += (self,)

    def stop(self) -> None:
        """Ends it; the last one to leave puts back what was found. Idempotent."""
        global _standin
        with _lock:
            self._thread = None
            if _standin is not None:
                _standin.listeners = tuple(other for other in _standin.listeners if other is not self)
                if not _standin.listeners:
                    _standin.remove()
                    _standin = None

    def pause(self) -> None:
        """Hears nothing until `resume`, which costs less than to stop and to start."""
        self._thread = None

    def resume(self) -> None:
        """Listens again, to the calling thread."""
        self._thread = threading.get_ident()

    def drain(self) -> Any:
        """Returns the mean of the norms since the last call, or None for none; one on a CUDA device stays there."""
        if not (self._norms or self._sums):
            return None
        if len(self._norms) > _ADDED_FEWEST:
            self._add_up()
        norms, self._norms = self._norms, []
        sums, self._sums = [*self._sums, *((norm, 1) for norm in norms)], []
        count = sum(number for _, number in sums)
        return added([total for total, _ in sums]) / count

    def hear(self, norm: Any, thread: int) -> None:
        """Takes a norm that was computed in `thread`."""
        if thread == self._thread:
            self._norms.append(norm.detach() if hasattr(norm, "detach") else norm)
            if len(self._norms) >= _KEPT_MOST:
                self._add_up()

    def _add_up(self) -> None:
        """Replaces the norms by one sum for each device they are on; no device is waited for."""
        norms, self._norms = self._norms, []
        by_device: dict[Any, list[Any]] = {}
        for norm in norms:
            by_device.setdefault(getattr(norm, "device", None), []).append(norm)
        for device, tensors in by_device.items():
            if device is None:
                self._sums.append((sum(tensors), len(tensors)))
                continue
            torch = sys.modules["torch"]
            # Not every device has float64.
            exact = torch.float64 if device.type == "cpu" else torch.float32
            total = torch.stack([tensor.reshape(()) for tensor in tensors]).sum(dtype=exact)
            self._sums.append((total, len(tensors)))


class _StandIn:
    """Stands in torch's place, and goes on as a mere passage where somebody has put theirs over it."""

    def __init__(self, utils: Any, listeners: tuple[GradientNorms, ...]) -> None:
        self.listeners = listeners
        self._utils = utils
        self._inner = getattr(utils, _NAME)
        self.__wrapped__ = self._inner
        compiler = getattr(sys.modules["torch"], "compiler", None)  # an older torch has none
        self._is_compiling = getattr(compiler, "is_compiling", _never)
        setattr(utils, _NAME, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        norm = self._inner(*args, **kwargs)
        if self._is_compiling():  # someone's graph, in which there are neither threads nor lists of ours
            return norm
        for listener in self.listeners:
            listener.hear(norm, threading.get_ident())
        return norm

    def retire(self) -> tuple[GradientNorms, ...]:
        """Returns the listeners, which are told no more."""
        listeners, self.listeners = self.listeners, ()
        return listeners

    def remove(self) -> None:
        """Puts back what was found, unless something else stands there now."""
        if vars(self._utils).get(_NAME) is self:
            setattr(self._utils, _NAME, self._inner)


def _never() -> bool:
    return False


def _torch_utils() -> Any:
    # A framework on JAX has no torch, and must not get one from here.
    return getattr(getattr(sys.modules.get("torch"), "nn", None), "utils", None)
