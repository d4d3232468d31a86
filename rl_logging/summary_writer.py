"""An object with the methods of torch's `SummaryWriter` that logs to a run: a loop moves over by one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from rl_logging.kept_summaries import KeptSummaries
from rl_logging.unkept_summaries import UnkeptSummaries


class SummaryWriter(UnkeptSummaries):
    """Logs what `torch.utils.tensorboard.SummaryWriter` would write to a file.

    Tags are names as they are given; ``global_step`` is the step, without one the run's clock counts as for every
    verb of the logger. What is wrong is a warning, once, and never an exception. A ``walltime`` is not kept: a record
    has the time at which it was logged.

    Args:
        logger: The `rl_logging.ExperimentLogger`.
        prefix: Goes before each tag, as ``prefix/tag``.

    Attributes:
        logger: That logger.
    """

    def __init__(self, logger: Any, prefix: str = "") -> None:
        super().__init__(logger)
        self._prefix = f"{prefix}/" if prefix and not prefix.endswith("/") else prefix
        self._kept = KeptSummaries(logger, self._prefix)

    @property
    def log_dir(self) -> str:
        """The run directory."""
        return str(self.logger.run_dir)

    def get_logdir(self) -> str:
        """Returns the run directory."""
        return self.log_dir

    # -- numbers ------------------------------------------------------------------------------------------------

    def add_scalar(
        self,
        tag: str,
        scalar_value: Any,
        global_step: Any = None,
        walltime: float | None = None,
        new_style: bool = False,
        double_precision: bool = False,
    ) -> None:
        """Logs one number as metric `tag`, always in double precision."""
        try:
            if type(global_step) is not int or walltime is not None:
                global_step = self._kept.step(global_step, walltime)
            if scalar_value is None or type(scalar_value) is str:
                scalar_value = self._kept.number(tag, scalar_value)
            self.logger.log_metrics({f"{self._prefix}{tag}": scalar_value}, global_step)
        except Exception as error:
            self._refuse("add_scalar", tag, error)

    def add_scalars(
        self, main_tag: str, tag_scalar_dict: Mapping[str, Any], global_step: Any = None, walltime: float | None = None
    ) -> None:
        """Logs several numbers as metrics ``main_tag/tag``."""
        self._guarded("add_scalars", main_tag, self._kept.scalars, main_tag, tag_scalar_dict, global_step, walltime)

    def add_tensor(self, tag: str, tensor: Any, global_step: Any = None, walltime: float | None = None) -> None:
        """Logs a tensor's mean, population std, min and max, as `add_histogram` does."""
        self.add_histogram(tag, tensor, global_step, walltime=walltime)

    def add_histogram(
        self,
        tag: str,
        values: Any,
        global_step: Any = None,
        bins: Any = "tensorflow",
        walltime: float | None = None,
        max_bins: int | None = None,
    ) -> None:
        """Logs ``tag/mean``, ``/std`` (population), ``/min`` and ``/max`` of `values`; its bins are not kept."""
        self._guarded("add_histogram", tag, self._kept.histogram, tag, values, global_step, walltime)

    def add_histogram_raw(
        self,
        tag: str,
        min: float,
        max: float,
        num: int,
        sum: float,
        sum_squares: float,
        bucket_limits: Sequence[float] = (),
        bucket_counts: Sequence[float] = (),
        global_step: Any = None,
        walltime: float | None = None,
    ) -> None:
        """Logs the same of values that were counted already, from their number, sum and sum of squares."""
        self._guarded(
            "add_histogram_raw", tag, self._kept.counted, tag, min, max, num, sum, sum_squares, global_step, walltime
        )

    def add_hparams(
        self,
        hparam_dict: Mapping[str, Any],
        metric_dict: Mapping[str, Any],
        hparam_domain_discrete: Mapping[str, Any] | None = None,
        run_name: str | None = None,
        global_step: Any = None,
    ) -> None:
        """Logs hyperparameters as configuration below ``hparams``, and their metrics as metrics of this run."""
        self._guarded("add_hparams", "hparams", self._kept.hparams, hparam_dict, metric_dict, global_step)

    # -- pictures, videos, texts --------------------------------------------------------------------------------

    def add_image(
        self,
        tag: str,
        img_tensor: Any,
        global_step: Any = None,
        walltime: float | None = None,
        dataformats: str = "CHW",
    ) -> None:
        """Logs a picture.

        Args:
            tag: Its name.
            img_tensor: Its pixels: uint8, or floats in [0, 1]; what lies outside is clipped.
            global_step: Its step.
            walltime: Not kept.
            dataformats: What its axes are: ``CHW``, ``HWC``, ``HW``, or with an N a batch, which becomes one picture.
        """
        self._guarded("add_image", tag, self._kept.image, tag, img_tensor, dataformats, global_step, walltime)

    def add_images(
        self,
        tag: str,
        img_tensor: Any,
        global_step: Any = None,
        walltime: float | None = None,
        dataformats: str = "NCHW",
    ) -> None:
        """Logs a batch of pictures as one, in rows of eight; see `add_image`."""
        self._guarded("add_images", tag, self._kept.image, tag, img_tensor, dataformats, global_step, walltime)

    def add_image_with_boxes(
        self,
        tag: str,
        img_tensor: Any,
        box_tensor: Any,
        global_step: Any = None,
        walltime: float | None = None,
        rescale: float = 1,
        dataformats: str = "CHW",
        labels: Any = None,
    ) -> None:
        """Logs a picture without its boxes, which is told once."""
        self.logger.warn_once("add_image_with_boxes", "add_image_with_boxes: the picture is logged without its boxes")
        self._guarded(
            "add_image_with_boxes", tag, self._kept.image, tag, img_tensor, dataformats, global_step, walltime
        )

    def add_figure(
        self, tag: str, figure: Any, global_step: Any = None, close: bool = True, walltime: float | None = None
    ) -> None:
        """Logs a matplotlib figure, or a list of them as one picture, rendered now.

        Args:
            tag: Its name.
            figure: The figure, or a list of figures of one size.
            global_step: Its step.
            close: Whether it is closed afterwards.
            walltime: Not kept.
        """
        self._guarded("add_figure", tag, self._kept.figure, tag, figure, global_step, walltime)
        self._guarded("add_figure", tag, self._kept.close, figure, close)

    def add_video(
        self, tag: str, vid_tensor: Any, global_step: Any = None, fps: float = 4, walltime: float | None = None
    ) -> None:
        """Logs a video.

        Args:
            tag: Its name.
            vid_tensor: Shape (N, T, C, H, W), several being shown beside each other, or (T, C, H, W); values as in
                `add_image`.
            global_step: Its step.
            fps: Frames a second.
            walltime: Not kept.
        """
        self._guarded("add_video", tag, self._kept.video, tag, vid_tensor, global_step, fps, walltime)

    def add_text(self, tag: str, text_string: str, global_step: Any = None, walltime: float | None = None) -> None:
        """Logs a text as a Markdown file: an artifact ``text-<tag>`` of type ``text``."""
        self._guarded("add_text", tag, self._kept.text, tag, text_string, global_step, walltime)

    # -- the end ------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Has everything delivered now, and waits for nobody: what was logged is in the journal already."""
        self.logger.flush(timeout=0)

    def close(self) -> None:
        """Does what `flush` does; the run goes on until its logger, or the process, ends."""
        self.flush()

    def __enter__(self) -> SummaryWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- errors -------------------------------------------------------------------------------------------------

    def _guarded(self, method: str, tag: object, function: Callable[..., Any], *arguments: Any) -> None:
        try:
            function(*arguments)
        except Exception as error:
            self._refuse(method, tag, error)

    def _refuse(self, method: str, tag: object, error: Exception) -> None:
        what = f"{method} '{tag}'" if isinstance(tag, str) else f"{method} of a {type(tag).__name__}"
        try:
            why = str(error)
        except Exception:  # an error made of what the caller gave
            why = type(error).__name__
        self.logger.warn_once(f"{what} {type(error).__name__}", f"{what}: not logged: {why}")
