"""A callback with the arguments of Ray's own ``MLflowLoggerCallback``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from rl_logging.adapters.ray_tune.callback import ExperimentLoggerCallback

_PARENT: Final = "mlflow.parentRunId"


class MLflowLoggerCallback(ExperimentLoggerCallback):
    """Logs a sweep to MLflow alone; takes the place of Ray's class of that name.

    Where the tags name a parent's run, as ``{"mlflow.parentRunId": …}``, that run is the sweep's own, and is left to
    its owner to end. Otherwise there is a run for the sweep.

    Args:
        tracking_uri: Where the store is; None: as MLflow's own client finds it.
        registry_uri: Where the model registry is.
        experiment_name: The experiment.
        tags: Tags of the sweep's run and of each trial's.
        tracking_token: A token for the store, which goes to the environment alone.
        save_artifact: Whether checkpoints and trials' folders are logged.
        log_params_on_trial_end: Taken and passed by: parameters are always logged at once, and again where they change.
    """

    def __init__(
        self,
        tracking_uri: str | None = None,
        *,
        registry_uri: str | None = None,
        experiment_name: str | None = None,
        tags: Mapping[str, Any] | None = None,
        tracking_token: str | None = None,
        save_artifact: bool = False,
        log_params_on_trial_end: bool = False,
    ) -> None:
        given = dict(tags or {})
        parent = given.pop(_PARENT, None)
        options: dict[str, Any] = {"tags": {str(key): str(value) for key, value in given.items()}}
        if tracking_uri is not None:
            options["tracking_uri"] = tracking_uri
        if parent is not None:
            options["run_id"] = str(parent)
        self._variables = {"MLFLOW_TRACKING_TOKEN": tracking_token, "MLFLOW_REGISTRY_URI": registry_uri}
        super().__init__(
            checkpoints=save_artifact, folder=save_artifact, sinks={"mlflow": options}, project=experiment_name
        )

    def setup(self, *arguments: Any, **info: Any) -> None:
        """Takes note of what sweep it is, and has the delivery process find the token and the registry."""
        os.environ.update({name: value for name, value in self._variables.items() if value is not None})
        super().setup(*arguments, **info)

    def __getstate__(self) -> dict[str, Any]:
        # Tune writes it to disk, where no token belongs: who restores the sweep has it in the environment.
        return {**super().__getstate__(), "_variables": {**self._variables, "MLFLOW_TRACKING_TOKEN": None}}
