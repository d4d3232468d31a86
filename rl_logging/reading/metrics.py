"""`read_metrics`: the metrics of one run or of many, as arrays or as a pandas DataFrame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from rl_logging.reading.history import history
from rl_logging.reading.runs import Where, find_runs
from rl_logging.stores import Points

COLUMNS = ("run", "name", "step", "time", "value")


class RunMetrics(Mapping[str, Points]):
    """The metrics of one run: names to points.

    Attributes:
        path: The run directory.
        run: The run's name.
        id: The run's id.
    """

    def __init__(self, path: Path, run: str, id: str, series: Mapping[str, Points]) -> None:
        self.path = path
        self.run = run
        self.id = id
        self._series = series

    def __getitem__(self, name: str) -> Points:
        try:
            return self._series[name]
        except KeyError:
            raise KeyError(_unknown(name, self._series)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._series)

    def __len__(self) -> int:
        return len(self._series)

    def __repr__(self) -> str:
        return f"<RunMetrics of {self.run!r}: {', '.join(self) or 'none'}>"


class LoggedMetrics(Mapping[str, Points]):
    """The metrics of some runs: names to points, in which one run's points follow another's.

    Attributes:
        runs: Each run's own, in the order the runs were begun.
    """

    def __init__(self, runs: Iterable[RunMetrics]) -> None:
        self.runs = tuple(runs)
        self._names = tuple(dict.fromkeys(name for run in self.runs for name in run))

    def __getitem__(self, name: str) -> Points:
        if name not in self._names:
            raise KeyError(_unknown(name, self._names))
        parts = [run[name] for run in self.runs if name in run]
        return parts[0] if len(parts) == 1 else Points(*map(np.concatenate, zip(*parts, strict=True)))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"<LoggedMetrics of {len(self.runs)} runs: {', '.join(self) or 'none'}>"

    def columns(self) -> dict[str, np.ndarray[Any, Any]]:
        """Returns all points as one long table: arrays of shape (N,) named run, name, step, time and value.

        ``run`` is the run directory's name, which no two runs of a folder share.
        """
        parts = [(run.path.name, name, series) for run in self.runs for name, series in run.items()]
        counts = [len(series.step) for _, _, series in parts]
        return {
            "run": np.repeat(np.array([run for run, _, _ in parts], dtype=object), counts),
            "name": np.repeat(np.array([name for _, name, _ in parts], dtype=object), counts),
            "step": np.concatenate([np.zeros(0, np.int64), *(series.step for _, _, series in parts)]),
            "time": np.concatenate([np.zeros(0), *(series.time for _, _, series in parts)]),
            "value": np.concatenate([np.zeros(0), *(series.value for _, _, series in parts)]),
        }

    def to_pandas(self) -> Any:
        """Returns `columns` as a pandas DataFrame.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError("to_pandas needs pandas: pip install pandas; columns() does without") from error
        return pandas.DataFrame(self.columns())


def read_metrics(where: Where | Iterable[Where], names: str | Iterable[str] | None = None) -> LoggedMetrics:
    """Reads what was logged from run directories, whatever the stores have; also while the runs go on.

    Args:
        where: A run directory, a folder of them, a glob pattern for either, or several of these.
        names: Which metrics: names or globs such as ``eval/*``; None: all.

    Returns:
        A mapping of names to `rl_logging.stores.Points`; ``.runs`` has them run by run, ``.to_pandas()`` makes a
        DataFrame.

    Raises:
        BundleError: `where` leads to no run directory, or to a damaged one.
    """
    patterns = None if names is None else (names,) if isinstance(names, str) else tuple(names)

    def wanted(name: str) -> bool:
        return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns or ())

    return LoggedMetrics(
        RunMetrics(
            bundle.path,
            bundle.manifest.name,
            bundle.manifest.id,
            history(bundle, None if patterns is None else wanted),
        )
        for bundle in find_runs(where)
    )


def _unknown(name: str, known: Iterable[str]) -> str:
    listed = sorted(known)
    return f"no metric '{name}' was logged; there are: {', '.join(listed[:20]) or 'none'}" + (
        f" and {len(listed) - 20} more" if len(listed) > 20 else ""
    )
