"""What lies on a CUDA device: what is to be read of it is asked for here, and never waited for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from rl_logging.extraction.figures import ValueConversionError


class OnDevice(NamedTuple):
    """A value whose figures are still on a device.

    Attributes:
        figures: One tensor of one element, or four: mean, std, min and max.
    """

    figures: tuple[Any, ...]


def on_device(value: Any) -> OnDevice | None:
    """Returns what is to be read of a CUDA tensor, or of a sequence of nothing but those; None for anything else.

    Aggregates are queued on the device: one pass for mean and std, one for min and max, in float64 for its tensors
    and in float32 for all others. A sharded tensor is anything else, since to gather it takes all its processes.

    Raises:
        ValueConversionError: Its elements are complex, or the device refuses.
    """
    try:
        return _on_device(value)
    except ValueConversionError:
        raise
    except Exception as error:  # an error of the device comes up at any call; it is never the training's
        raise ValueConversionError(f"{type(error).__name__}: {error}") from error


def _on_device(value: Any) -> OnDevice | None:
    if isinstance(value, (list, tuple)):
        if not (value and all(map(is_on_cuda, value))):
            return None
        tensor = _joined(value)
    elif is_on_cuda(value):
        tensor = value.detach()
    else:
        return None
    count = tensor.numel()
    if count == 0:
        return None
    if tensor.is_complex():
        raise ValueConversionError("its elements are complex")
    if count == 1:
        return OnDevice((tensor,))
    torch = sys.modules["torch"]
    if tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.float()
    std, mean = torch.std_mean(tensor, correction=0)
    low, high = torch.aminmax(tensor)
    return OnDevice((mean, std, low, high))


def is_on_cuda(value: Any) -> bool:
    """Whether `value` is a CUDA tensor, all of it in this process."""
    return getattr(value, "is_cuda", False) is True and not hasattr(value, "to_local")


def _joined(tensors: Sequence[Any]) -> Any:
    """Returns the elements of all tensors in one; they may be of several devices, which are not made to wait."""
    device = tensors[0].device
    return sys.modules["torch"].cat([tensor.detach().to(device, non_blocking=True).reshape(-1) for tensor in tensors])
