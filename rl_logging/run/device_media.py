"""Pictures and videos that lie on a CUDA device: copied beside the training, kept and accepted when they are there."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from rl_logging.extraction.on_device import is_on_cuda
from rl_logging.run.interface import Run

log = logging.getLogger("rl_logging")

_SEVERAL: Final = (list, tuple, deque)


def append_media(
    run: Run,
    kind: str,
    step: int,
    media: object,
    keep: Callable[[Any], object],
    refuse: Callable[[Exception], None],
) -> None:
    """Keeps a picture or video and appends its record: at once, or when it has arrived from its device.

    Args:
        run: The run.
        kind: The record's kind.
        step: The record's step.
        media: What was logged. A CUDA tensor, or a list of nothing but those, is not waited for.
        keep: Writes it to the run directory, and returns the record's body.
        refuse: Told what is wrong with one that had to arrive first. Of another, `keep` raises it.
    """
    if is_on_cuda(media):
        tensors: list[Any] = [media]
    elif isinstance(media, _SEVERAL) and media and all(map(is_on_cuda, media)):
        tensors = list(media)
    else:
        run.append(kind, step, keep(media))
        return

    alone = tensors[0] is media

    def accept(arrived: list[Any], time_s: float) -> None:
        try:
            body = keep(arrived[0] if alone else arrived)
        except Exception as error:
            log.debug("a %s that came from a device", kind, exc_info=True)
            refuse(error)
        else:
            run.append(kind, step, body, time_s)

    run.hold([tensor.detach() for tensor in tensors], accept, whole=True)
