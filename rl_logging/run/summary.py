"""What a person is told of a run: its status per destination, and the blocks at its start and finish."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

import rl_logging
from rl_logging import plugins
from rl_logging.bundle import SinkEntry
from rl_logging.bundle.destination import DestinationState

log = logging.getLogger("rl_logging")

EXAMPLES: Final = 3


class DestinationStatus(msgspec.Struct, kw_only=True, frozen=True):
    """How far one destination has come.

    Attributes:
        sink: The sink's name.
        destination: Where it leads.
        accepted: Records the journal has.
        on_device: Records whose values are still on their way from a device; they are accepted when they arrive.
        in_flight: Records handed to the store and not yet confirmed by it.
        confirmed: Records settled: in the store, or set aside, or of a kind the sink does not take.
        pending: Records still owed: `accepted` less `confirmed`; 0 where it was given up.
        delivered: Records in the store; the run's end is one.
        skipped: Records of kinds the sink does not take.
        rejected: Records the store refused.
        superseded: Records left out, because the run went back behind their steps.
        lacking: Records that were deleted from the journal before delivery there began: it gets none of them.
        forgotten: Whether it was given up (``rl-logging forget``): nothing is owed to it any more.
        renamed: Names the store does not take, and what it has instead.
        truncated: What the store has only in part, and how.
        merged: Points that were equal to others.
        remote_id: The remote run's id; None while unknown.
        url: Where a person looks at it; None while unknown.
        phase: What delivery does there: waiting, opening, delivering, backoff, refused or done.
        last_error: What went wrong last; None where nothing is wrong now.
    """

    sink: str
    destination: str
    accepted: int
    on_device: int
    in_flight: int
    confirmed: int
    pending: int
    delivered: int
    skipped: int
    rejected: int
    superseded: int
    renamed: dict[str, str]
    truncated: dict[str, str]
    merged: int
    remote_id: str | None
    url: str | None
    phase: str
    last_error: str | None
    lacking: int = 0
    forgotten: bool = False


def destination_status(accepted: int, state: DestinationState, on_device: int = 0) -> DestinationStatus:
    """Returns what there is to say of `state`, with `accepted` records in the journal, and more on a device."""
    return DestinationStatus(
        sink=state.sink,
        destination=state.destination,
        accepted=accepted,
        on_device=on_device,
        in_flight=max(0, state.handed_over - state.confirmed),
        confirmed=state.confirmed,
        pending=0 if state.forgotten else max(0, accepted - state.confirmed),
        delivered=state.delivered,
        skipped=state.skipped,
        rejected=state.rejected,
        superseded=state.superseded,
        renamed=dict(state.renamed),
        truncated=dict(state.truncated),
        merged=state.merged,
        remote_id=state.remote_id,
        url=state.url,
        phase=state.phase,
        last_error=state.last_error,
        lacking=state.lacking,
        forgotten=state.forgotten,
    )


def forgotten_in_words(accepted: int, state: DestinationState) -> str:
    """Returns what is said of a destination that was given up, with `accepted` records in the journal."""
    return f"given up, nothing is owed to it any more; it has {state.delivered:,} of {accepted:,} records"


def announce(text: str) -> None:
    """Shows an informative block through `logging`; on stderr where nobody has set up handlers."""
    if log.hasHandlers():
        log.info("%s", text)
        return
    record = log.makeRecord(log.name, logging.INFO, __file__, 0, text, (), None)
    logging.StreamHandler(sys.stderr).handle(record)


def sync_command(path: Path) -> str:
    """Returns the command that delivers what a run directory still owes."""
    return f"rl-logging sync {shlex.quote(_short(path))}"


def status_command(path: Path) -> str:
    """Returns the command that says what a run directory still owes."""
    return f"rl-logging status {shlex.quote(_short(path))}"


def look_command(entry: SinkEntry, state: DestinationState) -> str | None:
    """Returns the command that looks at what a destination has; None where there is none."""
    if entry.live or state.remote is None:
        return None
    try:
        return plugins.load(entry.name, entry.factory).look_command(entry.options, state.remote)
    except plugins.PluginError:
        return None


def start_block(name: str, path: Path, mode: str, entries: Mapping[str, SinkEntry]) -> str:
    """Returns what is told when a run begins."""
    lines = [f"rl_logging {rl_logging.__version__}: run '{name}'", f"  directory  {_short(path)}"]
    width = max([9, *map(len, entries)])
    lines += [f"  {sink:<{width}}  {entry.destination}" for sink, entry in entries.items()]
    if mode == "offline" and entries:
        lines.append(f"  delivered later, with\n    $ {sync_command(path)}")
    return "\n".join(lines)


def finish_block(
    name: str,
    status: str,
    path: Path,
    accepted: int,
    lost: int,
    states: Mapping[str, tuple[SinkEntry, DestinationState]],
    goes_on: bool = False,
) -> str:
    """Returns what is told when a run ends; the last of `accepted` records is the run's end itself.

    Args:
        name: The run's name.
        status: How it ended.
        path: Its directory.
        accepted: Records in the journal.
        lost: Records the disk did not take.
        states: What each destination has, by the sink's name.
        goes_on: Whether a process of its own still delivers.
    """
    lines = [f"rl_logging: run '{name}' {status}: {accepted:,} records in {_short(path)}"]
    if lost:
        lines.append(f"  {lost:,} more could not be written to the journal and are lost")
    width = max([9, *map(len, states)])
    owed = False
    for sink, (entry, state) in states.items():
        told = destination_status(accepted, state)
        lines.append(f"  {sink:<{width}}  {_account(told)}")
        margin = " " * (width + 4)
        if told.url and told.url.startswith(("http://", "https://")):
            lines.append(f"{margin}{told.url}")
        lines += [f"{margin}{line}" for line in _changes(told)]
        if state.forgotten:
            lines.append(f"{margin}{forgotten_in_words(accepted, state)}")
        elif told.pending or state.closed is None:
            owed = True
            if told.last_error:
                lines.append(f"{margin}because: {told.last_error}")
        else:
            command = look_command(entry, state)
            if command:
                lines.append(f"{margin}$ {command}")
    if owed and goes_on:
        lines.append(f"  delivery goes on by itself; look at it with\n    $ {status_command(path)}")
    elif owed:
        lines.append(f"  send what is owed with\n    $ {sync_command(path)}")
    return "\n".join(lines)


def as_html(name: str, path: Path, statuses: Mapping[str, DestinationStatus]) -> str:
    """Returns a run's status for a notebook."""
    import html  # a notebook's only

    rows = []
    for status in statuses.values():
        link = html.escape(status.destination)
        if status.url and status.url.startswith(("http://", "https://")):
            link = f'<a href="{html.escape(status.url)}" target="_blank">{link}</a>'
        cells = (html.escape(status.sink), link, f"{status.delivered:,}", f"{status.pending:,}", f"{status.rejected:,}")
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<th>{title}</th>" for title in ("sink", "destination", "delivered", "pending", "rejected"))
    return (
        f"<b>{html.escape(name)}</b> <code>{html.escape(_short(path))}</code>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _account(status: DestinationStatus) -> str:
    parts = [f"{status.delivered:,} delivered"]
    for count, word in (
        (status.pending, "still owed"),
        (status.rejected, "rejected"),
        (status.superseded, "superseded by a later part"),
        (len(status.renamed), "names changed"),
        (len(status.truncated), "truncated"),
        (status.merged, "merged"),
        (status.skipped, "not taken by this sink"),
        (status.lacking, "deleted from the journal before it could have them"),
    ):
        if count:
            parts.append(f"{count:,} {word}")
    return ", ".join(parts)


def _changes(status: DestinationStatus) -> list[str]:
    lines = []
    for title, changes in (("renamed", status.renamed), ("truncated", status.truncated)):
        if changes:
            some = "; ".join(f"{_clip(name)} → {_clip(what)}" for name, what in list(changes.items())[:EXAMPLES])
            more = len(changes) - EXAMPLES
            lines.append(f"{title}: {some}" + (f"; and {more:,} more" if more > 0 else ""))
    return lines


def _clip(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _short(path: Path) -> str:
    try:
        relative = str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)
    return relative if len(relative) < len(str(path)) else str(path)
