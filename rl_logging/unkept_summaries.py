"""The methods of torch's `SummaryWriter` for what no store of ours has a place for."""

from __future__ import annotations

from typing import Any


class UnkeptSummaries:
    """Takes what it cannot keep, and says so once.

    Args:
        logger: The `rl_logging.ExperimentLogger`.

    Attributes:
        logger: That logger.
    """

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def add_audio(
        self,
        tag: str,
        snd_tensor: Any,
        global_step: Any = None,
        sample_rate: int = 44100,
        walltime: float | None = None,
    ) -> None:
        """Keeps nothing, which is told once."""
        self._not_kept("add_audio")

    def add_graph(
        self, model: Any, input_to_model: Any = None, verbose: bool = False, use_strict_trace: bool = True
    ) -> None:
        """Keeps nothing, which is told once."""
        self._not_kept("add_graph")

    def add_onnx_graph(self, prototxt: Any) -> None:
        """Keeps nothing, which is told once."""
        self._not_kept("add_onnx_graph")

    def add_embedding(
        self,
        mat: Any,
        metadata: Any = None,
        label_img: Any = None,
        global_step: Any = None,
        tag: str = "default",
        metadata_header: Any = None,
    ) -> None:
        """Keeps nothing, which is told once."""
        self._not_kept("add_embedding")

    def add_pr_curve(
        self,
        tag: str,
        labels: Any,
        predictions: Any,
        global_step: Any = None,
        num_thresholds: int = 127,
        weights: Any = None,
        walltime: float | None = None,
    ) -> None:
        """Keeps nothing, which is told once."""
        self._not_kept("add_pr_curve")

    def add_pr_curve_raw(
        self,
        tag: str,
        true_positive_counts: Any,
        false_positive_counts: Any,
        true_negative_counts: Any,
        false_negative_counts: Any,
        precision: Any,
        recall: Any,
        global_step: Any = None,
        num_thresholds: int = 127,
        weights: Any = None,
        walltime: float | None = None,
    ) -> None:
        """Keeps nothing, which is told once."""
        self._not_kept("add_pr_curve_raw")

    def add_custom_scalars(self, layout: Any) -> None:
        """Keeps nothing, which is told once."""
        self._not_kept("add_custom_scalars")

    def add_custom_scalars_multilinechart(self, tags: Any, category: str = "default", title: str = "untitled") -> None:
        """Keeps nothing, which is told once."""
        self._not_kept("add_custom_scalars_multilinechart")

    def add_custom_scalars_marginchart(self, tags: Any, category: str = "default", title: str = "untitled") -> None:
        """Keeps nothing, which is told once."""
        self._not_kept("add_custom_scalars_marginchart")

    def add_mesh(
        self,
        tag: str,
        vertices: Any,
        colors: Any = None,
        faces: Any = None,
        config_dict: Any = None,
        global_step: Any = None,
        walltime: float | None = None,
    ) -> None:
        """Keeps nothing, which is told once."""
        self._not_kept("add_mesh")

    def _not_kept(self, method: str) -> None:
        self.logger.warn_once(
            f"summary_writer {method}", f"{method}: not kept: no store has a place for it; log_artifact takes any file"
        )
