"""The settings as a run has them: typed, checked, with their defaults."""

from __future__ import annotations

from typing import Any, Final, Literal, cast

import msgspec

from rl_logging.settings.callbacks import CheckpointSettings, EvalSettings, VideoSettings
from rl_logging.settings.sinks import SinkSettings

SYSTEM_METRICS_S: Final = 10.0


class Settings(msgspec.Struct, kw_only=True, frozen=True):
    """All settings but the sinks'.

    Attributes:
        name: Display name; None: generated.
        project: MLflow's experiment and W&B's project, where theirs are not given.
        group: Runs that belong together; None: those of the parent.
        parent: The run that this one is a part of: a run directory or an id; None: it stands alone.
        tags: Tags of the run.
        notes: Free text.
        id: The run's id; None: generated.
        dir: Where run directories go.
        resume: Which run to go on with: false (none), true, auto, a run directory or an id.
        resume_step: Which step a run that is gone on with goes back to: a step or checkpoint (the latest one's);
            None: it does not.
        keep: What stays of the journal: all, or what is undelivered.
        ranks: Which processes of a distributed training log: 0 or all.
        delivery: Who delivers: process, thread, offline or disabled.
        interval: How often adapters emit: framework, step, balanced (10), rollout, or a number of framework steps.
        clock: What adapters stamp as step: env_steps or framework.
        on_step_reset: What a clock that starts again does: continue or restart.
        metric_filter: Names, base names, globs, !globs; None: everything.
        names: Which names adapters log under: canonical, native or both.
        aliases: The user's own names for metrics of adapters, by their native or canonical ones.
        max_depth: How many levels of nested mappings are followed; None: 2 in adapters, all in `log_metrics`.
        system_metrics: Whether figures of the machine are logged; a number: every so many seconds.
        finish_timeout_s: How long `finish` waits.
        grace_s: How long SIGTERM leaves delivery time; 0: SIGTERM is not handled.
        eval: How `get_callbacks` evaluates; None: not at all.
        checkpoint: How it saves checkpoints; None: not at all.
        video: How it records videos; None: not at all.
        quiet: No block at the start and the finish.
    """

    name: str | None = None
    project: str | None = None
    group: str | None = None
    parent: str | None = None
    tags: tuple[str, ...] = ()
    notes: str | None = None
    id: str | None = None
    dir: str = "rl_runs"
    resume: bool | str = False
    resume_step: int | Literal["checkpoint"] | None = None
    keep: Literal["all", "undelivered"] = "all"
    ranks: Literal["0", "all"] = "0"
    delivery: Literal["process", "thread", "offline", "disabled"] = "process"
    interval: str | int = "framework"
    clock: Literal["env_steps", "framework"] = "env_steps"
    on_step_reset: Literal["continue", "restart"] = "continue"
    metric_filter: tuple[str, ...] | None = None
    names: Literal["canonical", "native", "both"] = "canonical"
    aliases: dict[str, str] | None = None
    max_depth: int | None = None
    system_metrics: bool | float = False
    finish_timeout_s: float = 60.0
    grace_s: float = 8.0
    eval: EvalSettings | None = None
    checkpoint: CheckpointSettings | None = None
    video: VideoSettings | None = None
    quiet: bool = False

    @property
    def system_metrics_s(self) -> float | None:
        """Seconds between two samples of the machine's figures; None: there are none."""
        if isinstance(self.system_metrics, bool):
            return SYSTEM_METRICS_S if self.system_metrics else None
        return self.system_metrics


class Loaded(msgspec.Struct, kw_only=True, frozen=True):
    """Everything a logger starts from; `given` are the settings that are no defaults."""

    settings: Settings
    sinks: tuple[SinkSettings, ...]
    config: dict[str, Any]
    notices: tuple[str, ...] = ()
    given: frozenset[str] = frozenset()


def as_dict(settings: Settings) -> dict[str, Any]:
    """Returns settings as JSON values."""
    return cast("dict[str, Any]", msgspec.to_builtins(settings))
