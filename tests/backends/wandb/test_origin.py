"""What a W&B run says of itself: whose rows it has, and whose place it takes."""

from __future__ import annotations

from pathlib import Path

from rl_logging.records import Config, Record
from tests.support import wandb_file
from tests.support.wandb_server import WandbServer
from tests.support.wandb_sink import RUN_ID, deliver, make_context, make_sink, metrics


def test_a_delivery_that_lost_its_state_goes_on_in_its_own_rows(tmp_path: Path, server: WandbServer) -> None:
    context, options = make_context(tmp_path / "run"), {"mode": "online", "dir": str(tmp_path / "logs")}
    first: list[Record] = [Config(seq=1, time=1.0, values={"lr": 0.1}), metrics(2, a=2.0), metrics(3, a=3.0)]
    deliver(make_sink(context, options), first, None)
    deliver(make_sink(context, options), [*first, metrics(4, a=4.0)], "finished", None)
    assert [(row["_step"], row["a"]) for row in server.runs[RUN_ID].rows] == [(2, 2), (3, 3), (4, 4)]


def test_so_it_does_offline(tmp_path: Path) -> None:
    context, options = make_context(tmp_path / "run"), {"mode": "offline", "dir": str(tmp_path)}
    first = [metrics(seq, a=float(seq)) for seq in range(1, 4)]
    deliver(make_sink(context, options), first, None)
    deliver(make_sink(context, options), [*first, metrics(4, a=4.0)], "finished", None)
    stored = wandb_file.read(wandb_file.offline_directories(tmp_path))
    assert [value for _, value in stored.series("a")] == [1.0, 2.0, 3.0, 4.0]


def test_a_run_that_takes_anothers_place_is_another_and_both_say_so(tmp_path: Path, server: WandbServer) -> None:
    options = {"mode": "online", "dir": str(tmp_path / "logs"), "id": "chosen"}
    state = deliver(make_sink(make_context(tmp_path / "run"), options), [metrics(1, a=1.0), metrics(2, a=2.0)])
    later = make_context(tmp_path / "run", run_id=f"{RUN_ID}--2", supersedes=state)
    deliver(make_sink(later, options), [metrics(1, a=1.0), metrics(3, a=3.0)])

    assert [(row["_step"], row["a"]) for row in server.runs["chosen"].rows] == [(1, 1), (2, 2)]
    assert [(row["_step"], row["a"]) for row in server.runs["chosen--2"].rows] == [(1, 1), (3, 3)]
    assert server.runs["chosen--2"].config["rl_logging.resumed_from"] == "chosen"
    assert server.runs["chosen"].config["rl_logging.superseded_by"] == "chosen--2"
    assert server.runs["chosen"].fields["groupName"] == server.runs["chosen--2"].fields["groupName"] == "a group"


def test_a_run_whose_predecessor_is_not_known_any_more_is_another_and_names_none(tmp_path: Path) -> None:
    options = {"mode": "offline", "dir": str(tmp_path), "id": "chosen"}
    context = make_context(tmp_path / "run", run_id=f"{RUN_ID}--2", supersedes={})
    deliver(make_sink(context, options), [metrics(1, a=1.0)])
    (folder,) = wandb_file.offline_directories(tmp_path)
    assert folder.name.endswith("-chosen--2")
    assert "rl_logging.resumed_from" not in wandb_file.read(folder).config
