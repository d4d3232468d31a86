"""Names are the user's: whatever a store does not take arrives under another name, and the ledger is told."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from rl_logging.records import Artifact, Image, Metrics, Model, Record, Video
from rl_logging.testing.contract.arrival import FILE_KINDS
from rl_logging.testing.contract.base import ContractBase, ReadStored, Start, ledger_of, numbered, some
from rl_logging.testing.samples import BEGAN, sample_records

ODD_NAMES: Final = (
    "a/b",
    "a/b/c/d/e",
    "two words",
    " padded ",
    "Reward / Total reward (mean)",
    "Reward / Total reward [mean]",
    "Reward / Total reward @mean@",
    "loss",
    "Loss",
    "dots.and-dashes_and:colons",
    "percent% hash# question? star* plus+ tilde~",
    "quotes\"'`",
    "back\\slash",
    "line\nbreak",
    "größe",
    "報酬",
    "🎯",
    "a//b",
    "/a",
    "a/",
    "../up",
    ".",
    "..",
    "0",
    "nan",
    "null",
    "x" * 300,
    "x" * 299 + "y",
    "_step",
    "_timestamp",
    "_runtime",
    "step",
    "global_step",
    "seq",
    "time",
    "id",
)
"""Metric names that users and frameworks give, and that some store does not take or has a meaning of its own for."""

ODD_FILE_NAMES: Final = ("eval/last frame", "größe (1)", "..", "x" * 200, "Curve", "curve")


class NameTests(ContractBase):
    """See `rl_logging.testing.SinkContract`."""

    def test_odd_names_arrive_under_some_name(self, start: Start, stored: ReadStored) -> None:
        """Each value arrives, under its name or under the one the ledger was told."""
        driver = start()
        self.need(driver, Metrics)
        # All in one record: a name that is not taken must not take the others with it.
        values = {name: index + 0.5 for index, name in enumerate(ODD_NAMES)}
        driver.write(
            [
                Metrics(seq=1, time=BEGAN + 1, step=10, values={"train/loss": -1.0, **values}),
                Metrics(seq=2, time=BEGAN + 2, step=20, values={"train/loss": -2.0}),
            ]
        )
        driver.settle()
        driver.close("finished")
        points = self.known(stored(driver.context, driver.state).points, "points")
        names_of: dict[Any, list[str]] = {}
        for name, _, value in points:
            names_of.setdefault(self.rounded(value), []).append(name)
        lost = [name for name, value in values.items() if self.rounded(value) not in names_of]
        assert not lost, f"names whose value did not arrive: {some(lost)}"
        assert ("train/loss", 20) in {(name, step) for name, step, _ in points}, "the next record did not arrive"
        stored_as = {name: names_of[self.rounded(value)] for name, value in values.items()}
        twice = {name: names for name, names in stored_as.items() if len(names) != 1}
        assert not twice, f"values that arrived more than once: {some(twice.items())}"
        told = ledger_of(driver).renames
        untold = {name: names[0] for name, names in stored_as.items() if told.get(name, name) != names[0]}
        assert not untold, f"stored under another name than ledger.renamed() was told: {some(untold.items())}"
        merged = len(stored_as) - len({names[0] for names in stored_as.values()})
        assert not merged, f"{merged} names became one with others: {some(sorted(map(tuple, stored_as.values())))}"

    def test_plain_names_are_left_alone(self, start: Start, stored: ReadStored) -> None:
        """Names that every store takes are not changed."""
        driver = start()
        self.need(driver, Metrics)
        names = ("loss", "train/loss", "episode_reward_mean", "eval/success_rate", "a1/b2/c3")
        driver.write([Metrics(seq=1, time=BEGAN, step=1, values=dict.fromkeys(names, 1.0))])
        driver.settle()
        driver.close("finished")
        points = self.known(stored(driver.context, driver.state).points, "points")
        assert {name for name, _, _ in points} == set(names)

    @pytest.mark.parametrize("kind", [Image, Video, Model, Artifact])
    def test_odd_names_of_files_arrive(self, start: Start, stored: ReadStored, kind: type[Record]) -> None:
        """Pictures, videos, models and artifacts with odd names arrive too."""
        driver = start()
        self.need(driver, kind)
        samples = [record for record in sample_records(driver.context.run_dir) if type(record) is kind][:1]
        records = numbered([msgspec.structs.replace(samples[0], name=name) for name in ODD_FILE_NAMES])
        driver.write(records)
        driver.settle()
        driver.close("finished")
        attribute = FILE_KINDS[kind]
        items = self.known(getattr(stored(driver.context, driver.state), attribute), attribute)
        self.expect_files(driver, items, records)
