"""Drawing learning curves, in a style one would put in a paper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from rl_logging.plotting.curves import Curve, learning_curves
from rl_logging.stores import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which people with any colour vision tell apart; the line styles do it in grey.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLES: Final = ("-", "--", "-.", ":")
SIZE_INCHES: Final = (6.4, 4.0)
STYLE: Final[dict[str, Any]] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}
DOTS_PER_INCH: Final = 200


def plot_metric(
    metric: str,
    stores: str | Store | Iterable[str | Store] = "rl_runs",
    *,
    group_by: Sequence[str] | None = None,
    experiment: str | None = None,
    failed_too: bool = False,
    title: str | None = None,
) -> Figure:
    """Draws one curve for each setting: the interquartile mean of its seeds, with a 95 % bootstrap band.

    Args:
        metric: The metric's name, such as ``episode_reward_mean``.
        stores: Locations as `rl_logging.retrieval.open_store` takes them (a folder of run directories, an MLflow
            tracking URI, ``wandb:entity/project``), or opened stores; one or several.
        group_by: What tells settings apart; see `learning_curves`.
        experiment: Only this experiment's runs.
        failed_too: Whether runs count that failed or were killed.
        title: The title; None: what all curves have in common.

    Raises:
        CurvesError: There is nothing to draw.
        rl_logging.stores.StoreError: A store cannot be opened, or does not answer.
        ImportError: matplotlib is not installed.
    """
    from rl_logging.retrieval import open_store

    several = [stores] if isinstance(stores, (str, Store)) else list(stores)
    opened = [open_store(store) if isinstance(store, str) else store for store in several]
    _, curves = learning_curves(opened, metric, group_by=group_by, experiment=experiment, failed_too=failed_too)
    return draw(curves, metric, title=title)


def draw(curves: Sequence[Curve], metric: str, *, title: str | None = None) -> Figure:
    """Returns a figure of curves.

    Args:
        curves: The curves, at least one.
        metric: What they show.
        title: The title; None: what all curves have in common.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
        from matplotlib.ticker import EngFormatter
    except ImportError as error:
        raise ImportError("drawing needs matplotlib: pip install 'rl-logging[plot]'") from error
    common, labels = told_apart(curves)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=SIZE_INCHES, dpi=DOTS_PER_INCH, layout="constrained")
        axes = figure.add_subplot()
        for number, (curve, label) in enumerate(zip(curves, labels, strict=True)):
            colour = COLOURS[number % len(COLOURS)]
            style = STYLES[number // len(COLOURS) % len(STYLES)] if len(curves) > len(COLOURS) else "-"
            seeds = f"{curve.runs} seed{'s' if curve.runs > 1 else ''}"
            axes.plot(
                curve.step,
                curve.middle,
                color=colour,
                linestyle=style,
                linewidth=1.8,
                marker="o" if len(curve.step) == 1 else None,
                label=f"{label} ({seeds})" if label else seeds,
            )
            if curve.runs > 1:
                axes.fill_between(curve.step, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0)
        axes.set_xlabel("environment steps")
        axes.set_ylabel(metric.replace("_", " "))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.margins(x=0)
        axes.set_title(", ".join(common) if title is None else title)
        axes.legend(loc="best")
        if any(curve.runs > 1 for curve in curves):
            figure.supxlabel(
                "line: interquartile mean over seeds; band: its 95 % bootstrap confidence interval",
                fontsize=7,
                color="0.4",
            )
    return figure


def told_apart(curves: Sequence[Curve]) -> tuple[list[str], list[str]]:
    """Returns what all settings have in common, and for each what tells it from the others."""
    parts = list(zip(*(curve.setting for curve in curves), strict=True))
    shared = [len(set(values)) == 1 for values in parts]
    common = [values[0] for values, same in zip(parts, shared, strict=True) if same and values[0]]
    labels = [
        " ".join(filter(None, (value for value, same in zip(curve.setting, shared, strict=True) if not same)))
        for curve in curves
    ]
    return common, labels
