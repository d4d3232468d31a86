"""What a run's evaluations came to."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from rl_logging.bundle import Bundle, superseded
from rl_logging.records import Metrics

NAMES: Final = ("eval/episode_reward_mean", "eval/mean_reward")
MOST: Final = 10


class Scores:
    """The mean returns of a run's last evaluations."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=MOST)
        self._recalled = False

    def note(self, values: Mapping[str, float]) -> None:
        """Looks for an evaluation's mean return among metrics; under both names it is the same one."""
        score = _score_in(values)
        if score is not None:
            self._last.append(score)

    def recall(self, read: Callable[[], Iterable[float]]) -> None:
        """Puts those of the run's earlier parts before these.

        Args:
            read: Returns them; called once, and only where these are not enough.
        """
        if not self._recalled and len(self._last) < MOST:
            self._recalled = True
            self._last = deque([*read(), *self._last], maxlen=MOST)

    def mean(self) -> float | None:
        """Returns their mean; None without any."""
        return math.fsum(self._last) / len(self._last) if self._last else None


def earlier_scores(bundle: Bundle, last_seq: int) -> list[float]:
    """Returns the last evaluations' mean returns that the earlier parts of a run have logged, oldest first.

    Args:
        bundle: The run.
        last_seq: The last record of those parts.

    Raises:
        BundleError: Where the run went back cannot be read.
        JournalError: The journal needs a newer version.
    """
    from rl_logging.reading import records  # NumPy comes with it, which a run that is not resumed does without

    is_superseded = superseded(bundle)
    found: deque[float] = deque(maxlen=MOST)
    for record in records(bundle, (Metrics,)):
        if record.seq > last_seq:
            break
        assert isinstance(record, Metrics)
        score = _score_in(record.values)
        if score is not None and not is_superseded(record):
            found.append(score)
    return list(found)


def _score_in(values: Mapping[str, float]) -> float | None:
    for name in NAMES:
        if name in values:
            return values[name]
    return None
