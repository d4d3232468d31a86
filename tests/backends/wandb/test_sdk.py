"""What is used of the SDK beyond its public face: there in the installed one, and not needed to get by."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb
from PIL import Image as Picture

from rl_logging.records import Environment, Image
from rl_logging_wandb import sdk, service
from tests.support import wandb_file
from tests.support.wandb_sink import RecordingLedger, deliver, make_context, make_sink, metrics


def named(path: str) -> Callable[[wandb.Run], Any]:
    module, _, name = path.rpartition(".")
    return lambda run: getattr(importlib.import_module(module), name)


def media(run: wandb.Run) -> wandb.Image:
    path = Path(run.dir, "x.png")
    Picture.new("RGB", (8, 8)).save(path)
    return wandb.Image(str(path))


def entry(run: wandb.Run) -> Any:
    artifact = wandb.Artifact("a", "model")
    (Path(run.dir) / "a.txt").write_text("a")
    artifact.add_file(str(Path(run.dir) / "a.txt"), policy="immutable", skip_cache=True)
    return next(iter(artifact.manifest.entries.values()))


def bound(run: wandb.Run) -> str:
    picture = media(run)
    picture.bind_to_run(run, "key", 1)
    assert isinstance(picture._path, str)
    return picture._path


LOOK: dict[str, Callable[[wandb.Run], Any]] = {
    "Run._is_finished": lambda run: run._is_finished,
    "Run._wl": lambda run: run._wl,
    "Run._run_status_checker": lambda run: [run._run_status_checker],  # None offline
    "Run._run_messages": lambda run: run._run_messages.stop,
    "Run._teardown_hooks": lambda run: [hook.call for hook in run._teardown_hooks],
    "Run._wl.remove_active_run": lambda run: run._wl.remove_active_run,
    "Run._wl.assert_service": lambda run: run._wl.assert_service,
    "Run._wl.assert_service().inform_finish": lambda run: run._wl.assert_service().inform_finish,
    "Run._settings.git_commit": lambda run: wandb.Settings.model_fields["git_commit"] and run._settings,
    "Run._settings.git_remote_url": lambda run: wandb.Settings.model_fields["git_remote_url"] and run._settings,
    "Media.bind_to_run": bound,
    "Media._path": bound,
    "Artifact.manifest.entries[].local_path": lambda run: entry(run).local_path,
    "Settings.log_internal": lambda run: run.settings.log_internal,
    "wandb_setup.singleton()._connection._proc._process": lambda run: sdk.core_process(),
    "wandb.sdk.mailbox.HandleAbandonedError": named("wandb.sdk.mailbox.HandleAbandonedError"),
    "wandb.sdk.mailbox.MailboxClosedError": named("wandb.sdk.mailbox.MailboxClosedError"),
    "wandb.proto.wandb_internal_pb2.Record": named("wandb.proto.wandb_internal_pb2.Record"),
    "wandb.proto.wandb_api_pb2.ApiErrorResponse.http_status": lambda run: (
        named("wandb.proto.wandb_api_pb2.ApiErrorResponse")(run)(http_status=403).http_status
    ),
}


def test_the_installed_sdk_has_every_private_name(tmp_path: Path) -> None:
    assert LOOK.keys() == sdk.PRIVATE.keys()
    missing = {}
    service.acquire("look")
    with wandb.init(mode="offline", dir=str(tmp_path), id="look", reinit="create_new") as run:
        for name, look in LOOK.items():
            try:
                found = look(run)
            except (AttributeError, ImportError, KeyError) as error:
                missing[name] = repr(error)
            else:
                if found is None:
                    missing[name] = "is None"
    service.release("look")
    told = "\n".join(f"{name} ({sdk.PRIVATE[name]}): {error}" for name, error in missing.items())
    assert not missing, (
        f"wandb {wandb.__version__} lacks what the sink uses of it; mend rl_logging_wandb/sdk.py:\n{told}"
    )


def offline(tmp_path: Path) -> dict[str, object]:
    return {"mode": "offline", "dir": str(tmp_path / "logs")}


def test_without_the_means_to_let_go_a_run_ends_as_interrupted_and_goes_on(
    tmp_path: Path, ledger: RecordingLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make_context(tmp_path / "run", ledger)
    with monkeypatch.context() as patch:
        patch.delattr("wandb.sdk.wandb_setup._WandbSetup.remove_active_run")
        patch.setattr("wandb.sdk.wandb_run.Run.finish", _finish_without(patch, wandb.Run.finish))
        state = deliver(make_sink(context, offline(tmp_path)), [metrics(1, a=1.0)], None)
    deliver(make_sink(context, offline(tmp_path)), [metrics(2, a=2.0)], "finished", state)

    run = wandb_file.read(tmp_path / "logs")
    assert run.series("a") == [(10, 1.0), (20, 2.0)]
    assert run.exit_codes == [255, 0]
    (warning,) = ledger.warnings
    assert "remove_active_run" in warning
    assert wandb.__version__ in warning


def _finish_without(patch: pytest.MonkeyPatch, finish: Any) -> Any:
    """A newer SDK that lacks a name does not use it itself."""

    def with_it(run: wandb.Run, *args: Any, **kwargs: Any) -> Any:
        patch.undo()
        return finish(run, *args, **kwargs)

    return with_it


def test_without_the_settings_of_a_run_the_commit_is_not_shown(
    tmp_path: Path, ledger: RecordingLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed:
        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

    monkeypatch.setattr(sdk, "set_commit", _with_settings(sdk.set_commit, Closed()))
    (tmp_path / "run").mkdir()
    (tmp_path / "run/environment.json").write_text("{}")
    record = Environment(seq=1, time=1.0, path="environment.json", facts={"git_commit": "c0ffee"})

    deliver(make_sink(make_context(tmp_path / "run", ledger), offline(tmp_path)), [record])

    assert wandb_file.read(tmp_path / "logs").commit == ""
    assert "git_commit" in ledger.warnings[0]


def _with_settings(set_commit: Any, settings: object) -> Any:
    def called(run: wandb.Run, *args: Any) -> None:
        kept, run._settings = run._settings, settings
        try:
            set_commit(run, *args)
        finally:
            run._settings = kept

    return called


def test_without_the_path_of_a_picture_its_row_is_all_that_is_looked_for(
    tmp_path: Path, ledger: RecordingLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    bind = sdk.bind

    def without(media: Any, *args: Any) -> Path | None:
        class Hidden:
            bind_to_run = media.bind_to_run

        return bind(Hidden(), *args)

    monkeypatch.setattr(sdk, "bind", without)
    (tmp_path / "run").mkdir()
    Picture.new("RGB", (8, 8)).save(tmp_path / "run/x.png")

    deliver(
        make_sink(make_context(tmp_path / "run", ledger), offline(tmp_path)),
        [Image(seq=1, time=1.0, step=10, name="p", path="x.png")],
    )

    ((step, picture),) = wandb_file.read(tmp_path / "logs").series("p")
    assert (step, picture["_type"]) == (10, "image-file")
    (warning,) = ledger.warnings
    assert "_path" in warning


def test_files_of_an_artifact_and_the_core_s_log_may_be_hidden() -> None:
    class Hidden:
        settings = None
        dir = "somewhere"

    assert sdk.local_files(Hidden()) == []  # type: ignore[arg-type]
    assert not sdk.core_log(Hidden()).exists()  # type: ignore[arg-type]
