"""The table of what each algorithm logs is checked by what was run of the matrix."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.matrix import __main__ as command
from tests.matrix import report

LOGGED = {
    "stable-baselines3": {"A2C": {"a"}, "DQN": {"a", "b"}, "PPO": {"a", "c"}, "SAC": {"a", "c"}, "TD3": {"a", "c"}},
    "SKRL 2": {"PPO": {"a"}},
    "SKRL 1.4.3": {"PPO": {"a"}},
}


@pytest.fixture(autouse=True)
def _own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "FOLDER", tmp_path / "matrix")
    monkeypatch.setattr(command, "TABLE", tmp_path / "table.rst")


def keep(framework: str, *algorithms: str) -> None:
    for algorithm in algorithms:
        report.keep(framework, algorithm, LOGGED[framework][algorithm])


def write_table() -> None:
    for framework, algorithms in LOGGED.items():
        keep(framework, *algorithms)
    command.main([])
    for file in report.FOLDER.rglob("*.json"):
        file.unlink()


def test_a_table_says_what_was_found():
    write_table()
    read = report.from_rst(command.TABLE.read_text())
    assert read == {framework: dict(algorithms) for framework, algorithms in LOGGED.items()}


def test_a_part_is_compared_with_its_part(capsys: pytest.CaptureFixture[str]):
    write_table()
    keep("stable-baselines3", "PPO", "DQN")
    command.main(["--check"])
    assert "5 algorithms are not checked: A2C (stable-baselines3)" in capsys.readouterr().out
    report.keep("stable-baselines3", "DQN", {"a"})
    with pytest.raises(SystemExit, match=r"is not what the matrix found of DQN \(stable-baselines3\):"):
        command.main(["--check"])


def test_a_part_is_not_written():
    write_table()
    before = command.TABLE.read_text()
    keep("stable-baselines3", "PPO")
    with pytest.raises(SystemExit, match="run in part, without A2C"):
        command.main([])
    assert command.TABLE.read_text() == before


def test_what_is_new_is_told():
    write_table()
    for framework, algorithms in LOGGED.items():
        keep(framework, *algorithms)
    command.main(["--check"])
    report.keep("SKRL 2", "SAC", {"a"})
    with pytest.raises(SystemExit, match=r"found of SAC \(SKRL 2\):"):
        command.main(["--check"])
