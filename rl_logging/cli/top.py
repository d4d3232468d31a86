"""``rl-logging top``."""

from __future__ import annotations

import click

from rl_logging.cli import stores as stores_
from rl_logging.retrieval import NoMetricError, RankedRun, StoreError, rank
from rl_logging.stores import RunInfo, Store


@click.command()
@click.option("--metric", required=True, help="What the runs are ranked by.")
@click.option("--min", "lowest", is_flag=True, help="The lower the better.")
@click.option(
    "--by",
    type=click.Choice(["best", "last"]),
    default="best",
    show_default=True,
    help="Which of a run's values counts.",
)
@click.option("-n", "count", default=10, show_default=True, type=click.IntRange(min=1), help="How many to show.")
@stores_.options(status="finished")
def top(
    metric: str,
    lowest: bool,
    by: str,
    count: int,
    stores: tuple[str, ...],
    experiment: str | None,
    group: str | None,
    status: str,
    as_json: bool,
) -> None:
    """Ranks runs by a metric, in stores or in run directories, the best first."""
    by_store: dict[int, tuple[Store, list[RunInfo]]] = {}
    for store, run in stores_.find(stores, experiment, group, status):
        by_store.setdefault(id(store), (store, []))[1].append(run)
    ranked: list[RankedRun] = []
    reasons = []
    for store, runs in by_store.values():
        try:
            ranked += rank(store, runs, metric, mode="min" if lowest else "max", by=by)  # type: ignore[arg-type]
        except NoMetricError as error:
            reasons.append(str(error))
        except StoreError as error:
            raise click.ClickException(str(error)) from error
    if not ranked:
        raise click.ClickException("\n".join(reasons))
    ranked.sort(key=lambda it: it.value if lowest else -it.value)
    rows = [{"value": it.value, "step": it.step, **stores_.told(it.run)} for it in ranked[:count]]
    columns = (
        "value",
        "step",
        "run",
        "id",
        "experiment",
        *(("status",) if status != "finished" else ()),
        *(("store",) if len(stores) > 1 else ()),
    )
    stores_.show(rows, columns, as_json)
