"""What the methods of torch's `SummaryWriter` become that our stores have a place for: the logger's own verbs."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Mapping
from typing import Any

from rl_logging.extraction.figures import Spread, convert


class KeptSummaries:
    """Logs them; an error is for the caller to tell.

    Args:
        logger: The `rl_logging.ExperimentLogger`.
        prefix: Goes before each tag, its slash included.
    """

    def __init__(self, logger: Any, prefix: str) -> None:
        self._logger = logger
        self._prefix = prefix

    def scalars(self, main_tag: str, values: Mapping[str, Any], global_step: Any, walltime: float | None) -> None:
        """See `SummaryWriter.add_scalars`."""
        above = f"{self._prefix}{main_tag}"
        self._logger.log_metrics(
            {f"{above}/{tag}": self.number(f"{main_tag}/{tag}", value) for tag, value in values.items()},
            self.step(global_step, walltime),
        )

    def histogram(self, tag: str, values: Any, global_step: Any, walltime: float | None) -> None:
        """See `SummaryWriter.add_histogram`; raises ValueError where there is nothing to describe."""
        spread = convert(values)
        if spread is None:
            raise ValueError("there are no values")
        if isinstance(spread, float):  # one value; a series keeps its names when there are more
            spread = Spread(spread, 0.0 if math.isfinite(spread) else math.nan, spread, spread)
        self._spread(tag, spread, self.step(global_step, walltime))

    def counted(
        self,
        tag: str,
        least: float,
        most: float,
        number: int,
        total: float,
        squares: float,
        global_step: Any,
        walltime: float | None,
    ) -> None:
        """See `SummaryWriter.add_histogram_raw`."""
        mean = float(total) / float(number)
        spread = Spread(mean, math.sqrt(max(0.0, float(squares) / float(number) - mean**2)), float(least), float(most))
        self._spread(tag, spread, self.step(global_step, walltime))

    def _spread(self, tag: str, spread: Spread, step: Any) -> None:
        name = f"{self._prefix}{tag}"
        self._logger.log_metrics({f"{name}/{part}": value for part, value in spread._asdict().items()}, step)

    def hparams(self, hparams: Mapping[str, Any], metrics: Mapping[str, Any], global_step: Any) -> None:
        """See `SummaryWriter.add_hparams`."""
        # One-element arrays and tensors are numbers here, as in torch's.
        single = {name: value.item() if hasattr(value, "item") else value for name, value in hparams.items()}
        self._logger.log_config({"hparams": single})
        values = {f"{self._prefix}{name}": self.number(name, value) for name, value in metrics.items()}
        self._logger.log_metrics(values, self.step(global_step))

    def image(self, tag: str, tensor: Any, dataformats: str, global_step: Any, walltime: float | None) -> None:
        """See `SummaryWriter.add_image` and `add_images`."""
        from rl_logging.media.tensors import picture_of  # NumPy comes with the first picture

        picture = picture_of(tensor, dataformats)
        self._logger.log_image(f"{self._prefix}{tag}", picture, step=self.step(global_step, walltime))

    def figure(self, tag: str, figure: Any, global_step: Any, walltime: float | None) -> None:
        """See `SummaryWriter.add_figure`."""
        step = self.step(global_step, walltime)
        if isinstance(figure, (list, tuple)):
            from rl_logging.media.tensors import picture_of

            figure = picture_of([_rendered(single) for single in figure], "NHWC")
        self._logger.log_image(f"{self._prefix}{tag}", figure, step=step)

    def close(self, figure: Any, close: bool) -> None:
        """Closes what `figure` has logged, where that was asked for."""
        pyplot = sys.modules.get("matplotlib.pyplot")
        if close and pyplot is not None:
            for single in figure if isinstance(figure, (list, tuple)) else [figure]:
                if hasattr(single, "savefig"):
                    pyplot.close(single)

    def video(self, tag: str, tensor: Any, global_step: Any, fps: float, walltime: float | None) -> None:
        """See `SummaryWriter.add_video`."""
        from rl_logging.media.tensors import video_of

        frames = video_of(tensor)
        self._logger.log_video(f"{self._prefix}{tag}", frames, step=self.step(global_step, walltime), fps=fps)

    def text(self, tag: str, text: Any, global_step: Any, walltime: float | None) -> None:
        """See `SummaryWriter.add_text`."""
        # W&B has one type for each name, so that a text must not be called like a model; and no slashes.
        self._logger.log_text(f"text-{self._prefix}{tag}", text, step=self.step(global_step, walltime))

    def step(self, global_step: Any, walltime: float | None = None) -> Any:
        """Returns the step to log at: what `int` makes of it, as in torch's; what is none the run's clock tells."""
        if walltime is not None:
            self._logger.warn_once(
                "summary_writer walltime", "walltime is not kept: a record has the time at which it was logged"
            )
        if global_step is None or type(global_step) is int:
            return global_step
        try:
            return int(global_step)
        except Exception:  # whatever it is: the clock shows it in its warning
            return global_step

    def number(self, tag: str, value: Any) -> Any:
        """Returns `value`; the number that a text holds, as torch's takes it too."""
        if value is None:
            self._logger.warn_once(f"metric {tag}", f"metric '{tag}': None is not a metric: skipped")
        elif isinstance(value, str):
            try:
                return float(value)
            except ValueError:
                pass  # told by log_metrics
        return value


def _rendered(figure: Any) -> Any:
    """Returns a figure's pixels, of shape (H, W, 4)."""
    import numpy as np
    import PIL.Image

    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=figure.dpi, pil_kwargs={"compress_level": 1})
    return np.asarray(PIL.Image.open(file).convert("RGBA"))
