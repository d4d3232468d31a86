"""What stands in for methods of a video recorder, to know when it closes a file."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, Final

from rl_logging.videos.folder import VideoFolder
from rl_logging.videos.watch import VideoWatch

_STEP: Final = "step"
_STEPS: Final = frozenset({_STEP, "step_wait"})


class ClosingHook:
    """Stands in for the method by which a recorder ends a recording, and has the folder looked at after it.

    A copy of the recorder (by pickle or deepcopy, as for another process) has the plain method in its place.

    Args:
        recorder: The recorder.
        method: That method's name.
        watch: The logger's watch.
        folder: The recorder's folder.
        resets_at_once: Whether the environment resets itself in the step that ends an episode. That one has not been
            counted when it ends the recording: so the folder is looked at before the next step.
    """

    def __init__(
        self, recorder: Any, method: str, watch: VideoWatch, folder: VideoFolder, *, resets_at_once: bool = False
    ) -> None:
        self.watch = watch
        self._recorder = recorder
        self._method = method
        self.folder = folder
        self._resets_at_once = resets_at_once
        self._own = vars(recorder).get(method)
        self._inner = getattr(recorder, method)
        setattr(recorder, method, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Ends the recording."""
        if not self.watch.active:
            return self._inner(*args, **kwargs)
        before = self._listing()
        result = self._inner(*args, **kwargs)
        if before is None:
            return result
        if self._resets_at_once and _in_a_vectors_step():
            _BeforeNextStep(self._recorder, functools.partial(self._look, before))
        else:
            self._look(before)
        return result

    @property
    def recording(self) -> bool:
        """Whether a recording has begun and not ended."""
        return bool(getattr(self._recorder, "recording", False))

    @property
    def below(self) -> ClosingHook | None:
        """The hook of another logger below this one."""
        return self._own if isinstance(self._own, ClosingHook) else None

    def remove(self) -> None:
        """Puts back what was there; where somebody has since put theirs over this one, it only becomes transparent."""
        if vars(self._recorder).get(self._method) is not self:
            return
        if self._own is None:
            delattr(self._recorder, self._method)
        else:
            setattr(self._recorder, self._method, self._own)

    def _look(self, before: Mapping[str, Any]) -> None:
        if self.watch.active:
            self.watch.look(self.folder, before)

    def _listing(self) -> Mapping[str, Any] | None:
        try:
            return self.folder.listing()
        except OSError:  # the look at the end of the run tells what is wrong
            return None

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies as the plain method, bound to the copied recorder."""
        return _plain, (self._recorder, self._method)


class _BeforeNextStep:
    """Stands in for a recorder's ``step``, once: does something, and then makes the step."""

    def __init__(self, recorder: Any, action: Callable[[], None]) -> None:
        self._recorder = recorder
        self._action = action
        self._own = vars(recorder).get(_STEP)
        setattr(recorder, _STEP, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Makes the step."""
        if self._own is None:
            delattr(self._recorder, _STEP)
        else:
            setattr(self._recorder, _STEP, self._own)
        self._action()
        return getattr(self._recorder, _STEP)(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies as the plain method."""
        return _plain, (self._recorder, _STEP)


def _in_a_vectors_step() -> bool:
    """Whether the caller is called by a step of one of Gymnasium's vector environments."""
    vector = getattr(getattr(sys.modules.get("gymnasium"), "vector", None), "VectorEnv", ())
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name in _STEPS and isinstance(frame.f_locals.get("self"), vector):
            return True
        frame = frame.f_back
    return False


def _plain(recorder: Any, method: str) -> Any:
    return getattr(type(recorder), method).__get__(recorder)
