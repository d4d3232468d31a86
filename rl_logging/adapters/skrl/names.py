"""What skrl's tags are called in a run: the table of canonical names, and how other tags are cleaned."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rl_logging.extraction.names import NameTable, Rename

UPDATE_TIME_TAG: Final = "Stats / Algorithm update time (ms)"

_RENAMES: Final[Mapping[str, str | Rename]] = {
    "Loss / Policy loss": "policy_loss",
    "Loss / Value loss": "value_loss",
    "Loss / Critic loss": "critic_loss",
    "Loss / Q-network loss": "q_loss",
    "Loss / Discriminator loss": "discriminator_loss",
    "Coefficient / Entropy coefficient": "entropy_coefficient",
    "Coefficient / Return threshold": "return_threshold",
    "Coefficient / Mean discounted returns": "discounted_return_mean",
    "Policy / Standard deviation": "policy_std",
    "Learning / Learning rate": "learning_rate",
    "Learning / Policy learning rate": "learning_rate/policy",
    "Learning / Critic learning rate": "learning_rate/critic",
    "Learning / Value learning rate": "learning_rate/value",
    "Exploration / Exploration epsilon": "exploration_rate",
    "Reward / Instantaneous reward (mean)": "mean_rewards",
    "Reward / Instantaneous reward (min)": "mean_rewards/min",
    "Reward / Instantaneous reward (max)": "mean_rewards/max",
    "Stats / Inference time (ms)": "timing/inference_ms",
    "Stats / Env stepping time (ms)": "timing/env_step_ms",
    UPDATE_TIME_TAG: Rename("learning_time", 1e-3),
}
_SPREADS: Final[Mapping[str, str]] = {
    "Q-network / Q1": "q1",
    "Q-network / Q2": "q2",
    "Target / Target": "target_q",
    "Exploration / Exploration noise": "exploration_noise",
}
_ENTROPY_TAG: Final = "Loss / Entropy loss"
_VALUE_TAG: Final = "Loss / Value loss"
_INFO: Final = "Info / "
_SUCCESS: Final = "success_rate"
SUCCESS_TAGS: Final = frozenset(f"{before}{group}{_SUCCESS}" for before in ("", _INFO) for group in ("", "Metrics/"))
"""Where environments' own success rates are tracked."""

_SLASH = re.compile(r"\s*/\s*")
_PARENTHESES = re.compile(r"\s*\(([^()]+)\)")


def clean(tag: str) -> str:
    """Returns `tag` without blanks around slashes and with ``(x)`` turned into ``/x``.

    ``Reward / Total reward (mean)`` becomes ``Reward/Total reward/mean``. An environment's figure that has a group of
    its own is called that in both versions: 1.x puts ``Info / `` before it.
    """
    spaced = tag.removeprefix(_INFO) if "/" in tag.removeprefix(_INFO) else tag
    return _PARENTHESES.sub(r"/\1", _SLASH.sub("/", spaced)).strip()


def name_table(agent: Any, label: str = "") -> NameTable:
    """Returns the table that names the tags of `agent`, a skrl agent or multi-agent.

    A multi-agent's tags carry an agent's id (``Loss / Policy loss (uid)``): they are named ``policy_loss/uid``.

    Args:
        agent: The agent.
        label: What stands before each of its tags, and is to stand before its names: one agent's among several.
    """
    uids = [str(uid) for uid in getattr(agent, "possible_agents", ())]
    if not label:
        return NameTable(dict(_entries(agent, uids)), clean)
    entries = {
        label + tag: Rename(label + target.canonical, target.scale)
        for tag, target in ((tag, _rename(target)) for tag, target in _entries(agent, uids))
    }
    return NameTable(entries, lambda tag: label + clean(tag.removeprefix(label)))


@functools.lru_cache(maxsize=256)
def learning_rate_tag(name: str) -> str:
    """Returns the tag under which skrl tracks the learning rate that is called `name`, where it does."""
    kind = name.partition("/")[2]
    for tag, known in _RENAMES.items():
        if known == name:
            return tag
    return f"Learning / Learning rate ({kind})"


def _entries(agent: Any, uids: Sequence[str]) -> Iterator[tuple[str, str | Rename]]:
    yield from _RENAMES.items()
    for tag, name in _SPREADS.items():
        for how in ("max", "min", "mean"):
            yield f"{tag} ({how})", f"{name}/{how}"
    for tag in SUCCESS_TAGS:
        yield tag, _SUCCESS
    yield from _scaled(agent, None).items()
    for uid in uids:
        for tag, target in {**_RENAMES, **_scaled(agent, uid)}.items():
            rename = _rename(target)
            yield f"{tag} ({uid})", Rename(f"{rename.canonical}/{uid}", rename.scale)


def _rename(target: str | Rename) -> Rename:
    return target if isinstance(target, Rename) else Rename(target)


def _scaled(agent: Any, uid: str | None) -> dict[str, str | Rename]:
    """Returns the losses that skrl tracks multiplied by their part in the total loss, which others leave out."""
    found: dict[str, str | Rename] = {}
    scale = _scale_of(agent, "value_loss_scale", uid)
    if scale is not None:
        found[_VALUE_TAG] = Rename("value_loss", 1.0 / scale)
    entropy = _entropy(agent, uid)
    if entropy is not None:
        found[_ENTROPY_TAG] = entropy
    return found


def _entropy(agent: Any, uid: str | None) -> Rename | None:
    """Returns what ``Loss / Entropy loss`` is: two things under one tag.

    In SAC it is the loss of the entropy coefficient. Elsewhere it is ``-scale * entropy``, so that the entropy can
    be had back where the scale is not 0.
    """
    if hasattr(agent, "_entropy_coefficient"):
        return Rename("entropy_coefficient_loss")
    scale = _scale_of(agent, "entropy_loss_scale", uid)
    return None if scale is None else Rename("entropy", -1.0 / scale)


def _scale_of(agent: Any, name: str, uid: str | None) -> float | None:
    """Returns a loss's factor in the total loss; None where there is none, or it is 0."""
    scale = getattr(agent, f"_{name}", None)
    if scale is None:
        scale = getattr(getattr(agent, "cfg", None), name, None)
    if isinstance(scale, Mapping):
        # Keyed by agent; the tag without an id belongs to no one of them.
        scale = scale.get(uid)
    return float(scale) if isinstance(scale, (int, float)) and scale > 0 else None
