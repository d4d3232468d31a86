"""What is made of an agent's calls: where they stand on the run's clock, what is counted, and when it is emitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rl_logging.adapters.skrl import describe
from rl_logging.adapters.skrl.checkpoints import Checkpoints
from rl_logging.adapters.skrl.device_episodes import DeviceEpisodes
from rl_logging.adapters.skrl.emitter import Emitter
from rl_logging.adapters.skrl.episodes import Episode, Episodes
from rl_logging.adapters.skrl.infos import EnvironmentFigures, success, successes
from rl_logging.adapters.skrl.surroundings import Surroundings
from rl_logging.adapters.skrl.timeline import Phase, Timeline
from rl_logging.adapters.videos import watch_env
from rl_logging.extraction.on_device import is_on_cuda

Call = Mapping[str, Any]
"""A call's arguments by name."""


class Observer:
    """Follows one agent through its trainings and evaluations. Its methods may raise; the tap keeps that apart.

    Args:
        logger: The `rl_logging.ExperimentLogger`.
        agent: The agent or multi-agent.
        source: What the agent was taken from (a Runner or a trainer), or the agent.
        num_envs: Environment steps in one step of the agent; None to find it out.
        begins_at: Returns where the run's clock starts.
        checkpoints: Whether to log the checkpoints that skrl writes.
        label: What stands before all names: one agent's among several.

    Attributes:
        emitter: Emits.
        timeline: Where the agent stands.
        sees_transitions: Whether the agent's transitions are observed; else its steps count.
        sees_writes: Whether its writing is; else an emission at each update takes its place.
    """

    def __init__(
        self,
        logger: Any,
        agent: Any,
        source: Any,
        *,
        num_envs: int | None,
        begins_at: Callable[[], int],
        checkpoints: bool,
        label: str,
    ) -> None:
        self.emitter = Emitter(logger, agent, label)
        self.sees_transitions = False
        self.sees_writes = False
        self._logger = logger
        self._agent = agent
        self._source = source
        self._given_num_envs = num_envs
        self._processes = describe.processes(agent)
        known = logger.num_envs or describe.memory_num_envs(agent)
        self._num_envs: int | None = known
        self.timeline = Timeline(logger, begins_at=begins_at, num_envs=num_envs or (known and known * self._processes))
        self._surroundings = Surroundings.of_source(source)
        self._episodes: Episodes | DeviceEpisodes | None = None
        self._was_training = getattr(agent, "_cumulative_rewards", None) is not None
        self._figures = EnvironmentFigures(None)
        self._last_finished: object = None
        self._updated = False
        self._turned_to: int | None = None
        folder = getattr(agent, "experiment_dir", None)
        self._checkpoints = Checkpoints(Path(folder) / "checkpoints", label) if checkpoints and folder else None
        self._algo_key = f"algo/{label.rstrip('/')}" if label else "algo"
        self._described = False

    def describe(self) -> None:
        """Logs the configuration, as far as it is known now."""
        self._describe({self._algo_key: describe.agent_configuration(self._agent)})
        if self._surroundings.env is not None:
            self._describe_surroundings()

    def describe_surroundings(self) -> None:
        """Logs what only the first transition told; at the others it does nothing."""
        if not self._described:
            self._describe_surroundings()

    # What the agent does, in the order of a step.

    def before_step(self, call: Call) -> None:
        """Begins a step, before anything in it is tracked."""
        if self.timeline.phase is not None:  # else the number of environments is not settled yet
            self._turned_to = call["timestep"]
            self._turn(call["timestep"])

    def before_transition(self, call: Call) -> None:
        """Takes the rewards of a transition, which the agent may write into."""
        rewards = call["rewards"]
        if self._episodes is None:
            self._episodes = self._meet(rewards)
        self._follow(call["timestep"])
        self._episodes.add(rewards)

    def after_transition(self, call: Call) -> None:
        """Takes what else a transition brought."""
        phase = self.timeline.phase
        episodes = self._episodes
        assert phase is not None
        assert episodes is not None
        infos = call.get("infos")
        emitter = self.emitter
        if self._something_finished():
            self._end_episodes(call, episodes, phase)
        for tag, value in self._figures.new(infos):
            emitter.tracked.add(tag, value)
        if phase.training:
            emitter.progress.transitions += 1
        elif self.timeline.timestep + 1 == call.get("timesteps") and not self._figures.are_tracked_after(infos):
            self.flush()  # nothing tells the end of an evaluation, but that its last step is recorded

    def after_step(self, call: Call) -> None:
        """Ends a step of the agent, with the update that may have been in it."""
        timestep = call["timestep"]
        updated = self.emitter.progress.step_ends() or self._updated
        self._updated = False
        if not self.sees_transitions:
            self._follow(timestep)
        interval = self.emitter.interval
        if interval.every is not None:
            due = interval.due(timestep + 1)
        else:
            due = updated and (interval.kind == "rollout" or not self.sees_writes)
        if due:
            self.emit(timestep + 1)

    def before_write(self, call: Call) -> None:
        """Takes what skrl is about to write and clear."""
        self.emitter.tracked.take()
        # The update of this step is over, though its step is not.
        self._updated = self.emitter.progress.step_ends() or self._updated
        phase = self.timeline.phase
        if phase is not None and not phase.training:
            self.emitter.collect()
        elif self.emitter.follows_skrl:
            self.emit(int(call["timestep"]))

    def after_checkpoint(self, call: Call) -> None:
        """Logs the files that skrl has written as models."""
        timestep = call["timestep"]
        phase = self.timeline.phase
        if self._checkpoints is None or phase is None or not phase.training or timestep is None:
            return
        for checkpoint in self._checkpoints.new(int(timestep)):
            self._logger.save_model(
                checkpoint.path,
                name=checkpoint.name,
                metadata=checkpoint.metadata(self._agent, int(timestep), phase.episodes.mean_return),
                step=self.timeline.at(int(timestep)),
                aliases=("best",) if checkpoint.best else (),
            )

    def stand_in_for_env(self) -> Any:
        """Returns what tells a copy of the agent, in another process, how its environments are; None for nothing."""
        env = self._surroundings.env if self._surroundings.env is not None else self._logger.env
        resets = Surroundings(env).resets_in_a_step
        return (
            None
            if resets is None
            else SimpleNamespace(metadata={"autoreset_mode": "NextStep" if resets else "SameStep"})
        )

    def emit(self, steps: int) -> None:
        """Emits what came since the last time, as of a number of the agent's steps."""
        timeline = self.timeline
        if timeline.phase is not None:
            unfinished = self._episodes.unfinished() if self._episodes is not None else None
            self.emitter.emit(timeline.at(steps), timeline.phase, timeline.num_envs, unfinished)

    def flush(self) -> None:
        """Emits what is left."""
        self.emit(self.timeline.timestep + 1)

    # The parts of that.

    def _end_episodes(self, call: Call, episodes: Episodes | DeviceEpisodes, phase: Phase) -> None:
        """Adds the episodes that ended with a transition to the phase's: now, or when they arrive from a device."""
        infos = call.get("infos")

        def add(ended: list[Episode], infos: object) -> None:
            for episode in ended:
                phase.episodes.add(episode.total, episode.length, success(infos, episode.env))

        if isinstance(episodes, Episodes):
            finished = episodes.end(call["terminated"], call["truncated"])
            if not finished:
                return
            add(finished, infos)
        else:
            left, close = episodes.end(call["terminated"], call["truncated"])
            says = successes(infos)
            tensors, told = says or ([], lambda _: None)
            self._logger.fetch([left, *tensors], lambda arrived: add(close(arrived[0]), told(arrived[1:])))
            phase.expect(successes=says is not None)
        self.emitter.episodes_ended(self.timeline.now, phase)

    def _meet(self, rewards: Any) -> Episodes | DeviceEpisodes:
        """Settles what only the first transition tells: whose environments these are, and how many."""
        first = next(iter(rewards.values())) if isinstance(rewards, Mapping) else rewards
        seen = len(first)
        if self._given_num_envs is None and seen != self._num_envs:
            if self._num_envs is not None:
                self._logger.warn_once(
                    "skrl/num_envs",
                    f"the agent is trained on {seen} environments, not on the {self._num_envs} that the logger's "
                    f"env or the agent's memory has: steps are counted with {seen}; where that is wrong, give num_envs "
                    "to logger.attach",
                )
            self.timeline.num_envs = seen * self._processes
        if self._surroundings.env is None:
            found = Surroundings.of_caller()
            self._surroundings = found if found.env is not None else Surroundings(self._logger.env)
        watch_env(self._logger, self._surroundings.env)
        self._num_envs = seen
        self._figures = EnvironmentFigures(self._surroundings.tracked_infos)
        resets = self._surroundings.resets_in_a_step
        kind = DeviceEpisodes if is_on_cuda(first) else Episodes
        return kind(resets_in_a_step=bool(resets), under_way=self._was_training and not (seen == 1 and resets is None))

    def _follow(self, timestep: int) -> None:
        """Takes a step on the timeline."""
        if timestep != self._turned_to:
            self._turn(timestep)
        self._turned_to = None
        self.timeline.advance(timestep)

    def _turn(self, timestep: int) -> None:
        """Turns to the training, or evaluation, that a step begins; what was tracked before it is emitted."""
        timeline = self.timeline
        phase = timeline.phase
        training = bool(getattr(self._agent, "training", True))
        if phase is not None:
            if phase.training is training and timestep > timeline.timestep:
                return
            self.flush()
            starts_again = timestep <= timeline.timestep
            lone = timeline.num_envs == 1 and self._surroundings.resets_in_a_step is None
            if starts_again and lone and self._episodes is not None:
                # A lone environment that does not reset itself is reset by the trainer as it starts.
                self._episodes.restart()
        timeline.enter(timestep, training=training)
        self.emitter.progress.begin()

    def _something_finished(self) -> bool:
        """Returns whether an episode may have ended with this transition, without waiting for a device.

        skrl reads the ends of episodes back to the host and appends them here: a new last element is that news.
        """
        tracked = getattr(self._agent, "_track_rewards", None)
        if tracked is None:
            return True
        last = tracked[-1] if tracked else None
        if last is None or last is self._last_finished:
            return False
        self._last_finished = last
        return True

    def _describe_surroundings(self) -> None:
        self._described = True
        values = describe.surrounding_configuration(self._surroundings, self._source)
        of_env = values.get("env", {}).get("num_envs")
        if self._num_envs is not None:
            # One of several agents may have only a part of the environments.
            values["num_envs"] = max(of_env or 1, self._num_envs)
        if "algo" in values:
            values[self._algo_key] = values.pop("algo")
        self._describe(values)

    def _describe(self, values: Mapping[str, Any]) -> None:
        nested: dict[str, Any] = {}
        for key, value in values.items():
            first, _, rest = key.partition("/")
            nested[first] = {rest: value} if rest else value
        self._logger.add_config_defaults(nested)
