"""What people forget: each hook, setting, option, command, public name and metric name is documented."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import SimpleNamespace

import click
import msgspec
import pytest

import rl_logging
import rl_logging.testing
import rl_logging_mlflow.options
import rl_logging_wandb.options
from rl_logging import hookspecs, records
from rl_logging.adapters.skrl import names as skrl_names
from rl_logging.adapters.skrl.names import name_table
from rl_logging.adapters.stable_baselines3 import names as sb3_names
from rl_logging.bundle import Manifest, SinkEntry, WriterInfo
from rl_logging.bundle.destination import DestinationState
from rl_logging.cli import main
from rl_logging.settings import Settings, SettingsError, load
from rl_logging.settings.callbacks import CheckpointSettings, EvalSettings, VideoSettings
from tests.docs.blocks import DOCS, README


def page(name: str) -> str:
    return (DOCS / "reference" / f"{name}.rst").read_text(encoding="utf-8")


def literals(text: str) -> set[str]:
    return set(re.findall(r"``([^`]+)``", text))


def part(text: str, title: str) -> str:
    """Returns the section called `title`, up to the next of its rank."""
    match = re.search(rf"^{re.escape(title)}\n(?P<line>([-=~])\2+)\n", text, flags=re.MULTILINE)
    assert match is not None, title
    rest = text[match.end() :]
    end = re.search(rf"^.+\n{match['line'][0]}{{3,}}\n", rest, flags=re.MULTILINE)
    return rest if end is None else rest[: end.start()]


def test_every_hook_is_documented():
    hooks = {name for name in vars(hookspecs) if name.startswith("rl_logging_")}
    assert len(hooks) >= 5
    assert set(re.findall(r"autofunction:: rl_logging\.hookspecs\.(\w+)", page("hooks"))) == hooks
    for hook in hooks:
        assert inspect.getdoc(getattr(hookspecs, hook))


def test_every_setting_is_a_keyword_and_documented_with_its_default():
    rows = re.findall(
        r"^   \* - ``(\w+)``\n     - (.+)\n     - (.+)$",
        part(page("settings"), "rl_logging"),
        flags=re.MULTILINE,
    )
    defaults = {field.name: field.default for field in msgspec.structs.fields(Settings)} | {"sinks": None}
    assert [key for key, *_ in rows] == list(defaults)
    load(None, dict.fromkeys(defaults))  # each is a keyword too, here with nothing in it
    with pytest.raises(SettingsError, match="there is no such setting"):
        load(None, {"keyword": None})
    for key, default, _ in rows:
        words = {None: "null", False: "false", (): "none", 60.0: "60", 8.0: "8"}
        expected = defaults[key] if isinstance(defaults[key], str) else words[defaults[key]]
        assert default.strip("`") == expected, key


@pytest.mark.parametrize("name", ["eval", "checkpoint", "video"])
def test_every_setting_of_a_callback_is_documented_with_its_default(name: str):
    rows = re.findall(r"^``(\w+)`` +(\S+) +\S", part(page("settings"), f"rl_logging.{name}"), flags=re.MULTILINE)
    kind = {"eval": EvalSettings, "checkpoint": CheckpointSettings, "video": VideoSettings}[name]
    words = {None: "null", False: "false", True: "true"}
    assert rows == [
        (key, words[default] if default is None or isinstance(default, bool) else str(default))
        for key, default in msgspec.structs.asdict(kind()).items()
    ]


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_every_option_of_our_sinks_is_documented(name: str):
    module = {"mlflow": rl_logging_mlflow.options, "wandb": rl_logging_wandb.options}[name]
    known = set(module.KEYS if name == "mlflow" else module.KNOWN)
    rows = set(re.findall(r"^``(\w+)`` ", part(page("settings"), name).partition("Refused")[0], flags=re.MULTILINE))
    assert rows == known


def test_every_refused_argument_is_documented():
    refused = literals(part(page("settings"), "wandb").partition("Refused")[2])
    assert set(rl_logging_wandb.options.REFUSED) <= refused


def test_every_command_and_option_is_documented():
    text = page("cli")
    for name, command in main.commands.items():
        section = re.search(rf"^rl-logging {name}( [A-Z_.\[\]]+)?\n-+\n(.*?)(?=^rl-logging |\Z)", text, re.M | re.S)
        assert section is not None, name
        for parameter in command.params:
            for option in parameter.opts if isinstance(parameter, click.Option) else ():
                assert f"``{option}" in section[0], f"{name} {option}"


@pytest.mark.parametrize("module", [rl_logging, rl_logging.testing])
def test_every_public_name_is_documented(module):
    text = page("api")
    prefix = r"(?:rl_logging\.testing\.)?"
    for name in module.__all__:
        if not name.startswith("__"):
            assert re.search(rf"auto\w+:: {prefix}{name}$", text, flags=re.MULTILINE), name


def test_every_kind_of_record_is_documented():
    api, bundle = page("api"), part(page("bundle"), "The journal")
    for kind, record in records.KINDS.items():
        assert f"autoclass:: rl_logging.records.{record.__name__}\n" in api
        row = re.search(rf"^``{kind}``(.*)", bundle, flags=re.MULTILINE)
        assert row is not None, kind
        if record not in (records.Metrics, records.Config):
            assert set(record.__struct_fields__[3:]) == {
                name for name in literals(row[1]) if name in record.__struct_fields__
            }


@pytest.mark.parametrize(
    ("struct", "title"), [(Manifest, "run.json"), (SinkEntry, "run.json"), (DestinationState, "sinks/<key>.json")]
)
def test_every_field_of_a_bundle_is_documented(struct: type[msgspec.Struct], title: str):
    named = literals(part(page("bundle"), title))
    assert {field.name for field in msgspec.structs.fields(struct)} <= named


def test_every_field_of_the_writer_is_documented():
    assert {field.name for field in msgspec.structs.fields(WriterInfo)} <= literals(page("bundle"))


def test_every_canonical_name_of_skrl_is_documented():
    text = part(page("metrics"), "SKRL")
    agent = SimpleNamespace(cfg=SimpleNamespace(entropy_loss_scale=0.5))
    spread = re.compile(r" \((?:max|min|mean)\)$")
    table = name_table(agent)
    natives = [native for native, _ in skrl_names._entries(agent, ())]
    assert len(natives) > 20
    for native in natives:
        rename = table.lookup(native)
        assert native in literals(text) or spread.sub(" (max)", native) in literals(text), native
        assert rename.canonical in literals(text), native


def test_every_canonical_name_of_stable_baselines3_is_documented():
    named = literals(part(page("metrics"), "stable-baselines3"))
    table = sb3_names.name_table(SimpleNamespace(q_net=None), frozenset())
    for native in (*sb3_names._RENAMES, "train/loss"):
        assert {native, table.lookup(native).canonical} <= named, native


def test_every_page_is_linked_from_the_readme_or_the_index():
    index = (DOCS / "index.rst").read_text(encoding="utf-8")
    pages = list(DOCS.rglob("*.rst"))
    parts = {
        (path.parent / included).resolve()
        for path in pages
        for included in re.findall(r"^\.\. include:: (\S+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    }
    for path in pages:
        name = path.relative_to(DOCS).with_suffix("").as_posix()
        if path.resolve() in parts:
            continue
        assert name == "index" or f"   {name}\n" in index, name
    for link in re.findall(r"<((?:docs/)?[\w/]+\.rst|LICENSE)>`_", README.read_text(encoding="utf-8")):
        assert Path(README.parent, link).is_file(), link
