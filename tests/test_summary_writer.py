"""The summary writer beside torch's own: the same methods, and the same calls taken."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import PIL.Image
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter as TorchWriter

from rl_logging import ExperimentLogger
from rl_logging.summary_writer import SummaryWriter
from rl_logging.testing import RecordingLogger
from tests.media.test_videos import assert_close, decode
from tests.support import wandb_file
from tests.support.processes import run_command
from tests.support.tensorboard_file import scalars

PUBLIC = [name for name in vars(TorchWriter) if not name.startswith("_")]


@pytest.fixture
def logger() -> RecordingLogger:
    return RecordingLogger()


@pytest.fixture
def writer(logger: RecordingLogger) -> SummaryWriter:
    return logger.summary_writer()


def pixels(logger: RecordingLogger, index: int = -1) -> np.ndarray:
    with PIL.Image.open(logger.file_of(logger.images[index])) as opened:
        return np.asarray(opened)


@pytest.mark.parametrize("name", PUBLIC)
def test_each_method_takes_what_torchs_takes(name: str) -> None:
    theirs, ours = (inspect.signature(getattr(kind, name)) for kind in (TorchWriter, SummaryWriter))
    told = [(parameter.name, parameter.kind) for parameter in ours.parameters.values()]
    assert told[: len(theirs.parameters)] == [(it.name, it.kind) for it in theirs.parameters.values()]
    for parameter in theirs.parameters.values():
        if parameter.default is not inspect.Parameter.empty:
            assert ours.parameters[parameter.name].default == parameter.default, parameter.name


SCALARS = [
    (0.5, 1),
    (3, 2),
    (True, 3),
    (np.float32(0.25), 4),
    (np.array([[7.0]]), 5),
    (torch.tensor(1.5), 6),
    (torch.tensor([2.5], requires_grad=True), 7),
    (torch.tensor(3.0, dtype=torch.bfloat16), 8),
    ("4.5", 9),
    (5.5, 10.7),
    (6.5, np.int64(11)),
    (7.5, torch.tensor(12)),
    (math.nan, 13),
    (math.inf, 14),
]


def test_scalars_are_those_of_torchs_file(logger: RecordingLogger, writer: SummaryWriter, tmp_path: Path) -> None:
    torchs = TorchWriter(str(tmp_path / "torch"))
    for one in (writer, torchs):
        for value, step in SCALARS:
            one.add_scalar("charts/episodic_return", value, step)
        one.close()
    expected = scalars(tmp_path / "torch")["charts/episodic_return"]
    assert len(expected) == len(SCALARS)
    np.testing.assert_equal(logger.series("charts/episodic_return"), expected)
    assert len(logger.metrics) == len(SCALARS), "each call is a record of its own"
    assert not logger.warnings


def test_without_a_step_the_runs_clock_counts(logger: RecordingLogger, writer: SummaryWriter) -> None:
    writer.add_scalar("a", 1, 40)
    writer.add_scalar("a", 2)
    writer.add_scalar("a", 3)
    logger.step = 100
    writer.add_scalar("a", 4)
    assert logger.series("a") == [(40, 1.0), (41, 2.0), (42, 3.0), (100, 4.0)]


def test_a_prefix_goes_before_each_tag(logger: RecordingLogger) -> None:
    for prefix in ("actor", "critic/"):
        with logger.summary_writer(prefix) as writer:
            writer.add_scalar("loss", 1.0, 1)
            writer.add_scalars("losses", {"value": 2.0, "policy": torch.tensor(3.0)}, 1)
            writer.add_histogram("weights", [1.0, 3.0], 1)
            writer.add_image("frame", np.zeros((3, 4, 4), np.uint8), 1)
    assert logger.names == [
        f"{prefix}/{name}"
        for prefix in ("actor", "critic")
        for name in (
            "loss",
            "losses/value",
            "losses/policy",
            *(f"weights/{part}" for part in ("mean", "std", "min", "max")),
        )
    ]
    assert [image.name for image in logger.images] == ["actor/frame", "critic/frame"]


@pytest.mark.parametrize(
    "values", [torch.arange(5.0), np.arange(5), list(range(5)), torch.arange(5.0).reshape(5, 1).requires_grad_()]
)
def test_a_histogram_is_its_aggregates(values: Any, logger: RecordingLogger, writer: SummaryWriter) -> None:
    array = np.arange(5.0)
    writer.add_histogram("h", values, 3, bins="auto", max_bins=10)
    writer.add_histogram_raw("raw", 0, 4, 5, array.sum(), (array**2).sum(), [1, 5], [1, 4], 3)
    expected = {"mean": 2.0, "std": float(array.std()), "min": 0.0, "max": 4.0}
    for metrics, name in zip(logger.metrics, ("h", "raw"), strict=True):
        assert metrics == pytest.approx({f"{name}/{part}": value for part, value in expected.items()})


def test_a_histogram_of_one_value_keeps_its_names(logger: RecordingLogger, writer: SummaryWriter) -> None:
    writer.add_histogram("h", torch.tensor([2.0]), 1)
    assert logger.metrics == [{"h/mean": 2.0, "h/std": 0.0, "h/min": 2.0, "h/max": 2.0}]


IMAGE = np.linspace(0, 1, 3 * 5 * 7).reshape(3, 5, 7)  # as (C, H, W)
BYTES = np.rint(IMAGE.transpose(1, 2, 0) * 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("image", "options", "expected"),
    [
        (IMAGE, {}, BYTES),
        (torch.tensor(IMAGE), {}, BYTES),
        (torch.tensor(BYTES), {"dataformats": "HWC"}, BYTES),
        (BYTES.transpose(1, 0, 2), {"dataformats": "whc"}, BYTES),
        (IMAGE[0], {"dataformats": "HW"}, BYTES[..., 0]),
        (IMAGE[:1], {}, BYTES[..., 0]),
        (IMAGE * 2 - 0.5, {}, np.rint(np.clip(IMAGE * 2 - 0.5, 0, 1).transpose(1, 2, 0) * 255)),
        (np.where(IMAGE > 0.5, np.nan, 0), {}, np.zeros_like(BYTES)),
        (BYTES.astype(np.int64), {"dataformats": "HWC"}, BYTES),
        (IMAGE > 0.5, {}, (IMAGE > 0.5).transpose(1, 2, 0) * 255),
        (IMAGE[:, :3, :3], {}, BYTES[:3, :3]),  # where every axis could be the channels
    ],
)
def test_images(
    image: Any, options: dict[str, str], expected: np.ndarray, logger: RecordingLogger, writer: SummaryWriter
) -> None:
    writer.add_image("frame", image, 5, **options)
    assert not logger.warnings
    assert logger.images[0].step == 5
    np.testing.assert_array_equal(pixels(logger), expected)


@pytest.mark.parametrize("count", [1, 3, 8, 11])
def test_a_batch_of_images_is_torchs_grid(count: int, logger: RecordingLogger, writer: SummaryWriter) -> None:
    from torch.utils.tensorboard._utils import make_grid

    batch = np.random.default_rng(0).integers(0, 256, (count, 3, 6, 4), dtype=np.uint8)
    writer.add_images("batch", torch.tensor(batch), 1)
    writer.add_images("batch", batch.transpose(0, 2, 3, 1), 1, dataformats="NHWC")
    for index in (0, 1):
        np.testing.assert_array_equal(pixels(logger, index), make_grid(batch).transpose(1, 2, 0))


@pytest.mark.parametrize("form", ["bytes", "floats", "one"])
def test_a_video(form: str, logger: RecordingLogger, writer: SummaryWriter) -> None:
    video = np.zeros((2, 6, 3, 16, 32), np.uint8)  # (N, T, C, H, W)
    video[0, :, 0] = 200
    video[1, :, 2] = 100
    given: dict[str, Any] = {"bytes": torch.tensor(video), "floats": video / 255, "one": video[0]}
    writer.add_video("episode", given[form], 9, fps=12)
    (record,) = logger.videos
    assert (record.step, record.fps) == (9, 12.0)
    shown = [video[0]] if form == "one" else [video[0], video[1]]
    fps, frames = decode(logger.file_of(record))
    assert fps == 12.0
    assert_close(frames, np.concatenate(shown, axis=-1).transpose(0, 2, 3, 1))


def test_figures_are_rendered_and_closed(logger: RecordingLogger, writer: SummaryWriter) -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot

    kept, closed, first, second = (pyplot.figure(figsize=(2, 1), dpi=50) for _ in range(4))
    writer.add_figure("plot", kept, 1, close=False)
    writer.add_figure("plot", closed, 1)
    writer.add_figure("plots", [first, second], 1)
    assert pyplot.get_fignums() == [kept.number]
    pyplot.close(kept)
    assert [pixels(logger, index).shape[:2] for index in range(3)] == [(50, 100), (50, 100), (50, 200)]


def test_a_text_is_a_file(logger: RecordingLogger, writer: SummaryWriter) -> None:
    table = "|param|value|\n|-|-|\n|lr|0.001|\n|Größe|√2|"
    writer.add_text("hyperparameters", table)
    writer.add_text("hyperparameters", "later", 12)
    writer.add_text("notes/number", 5)  # type: ignore[arg-type]
    told = [(record.name, record.type, record.step) for record in logger.artifacts]
    assert told == [
        ("text-hyperparameters", "text", 0),
        ("text-hyperparameters", "text", 12),
        ("text-notes/number", "text", 12),
    ]
    files = [logger.file_of(record) for record in logger.artifacts]
    assert [file.name for file in files] == ["text-hyperparameters.md", "text-hyperparameters.md", "number.md"]
    assert [file.read_text(encoding="utf-8") for file in files] == [table, "later", "5"]


def test_hyperparameters_are_configuration(logger: RecordingLogger, writer: SummaryWriter) -> None:
    hyperparameters = {"lr": 1e-3, "layers": 2, "name": "mine", "flag": True, "size": torch.tensor(3), "none": None}
    writer.add_hparams(hyperparameters, {"hparam/score": torch.tensor(0.5)}, global_step=8)
    assert logger.config == {"hparams": {**hyperparameters, "size": 3}}
    assert logger.points == [("hparam/score", 8, 0.5)]


WRONG: list[tuple[str, tuple[Any, ...], str]] = [
    ("add_scalar", ("a", "text", 1), "metric 'a'"),
    ("add_scalar", ("a", None, 1), "metric 'a': None is not a metric"),
    ("add_scalar", ("a", object(), 1), "metric 'a'"),
    ("add_scalar", ("a", 1.0, "soon"), "step: got 'soon'"),
    ("add_scalar", ("a", 1.0, 1, 123.0), "walltime is not kept"),
    ("add_scalars", ("a", 5, 1), "add_scalars 'a'"),
    ("add_histogram", ("a", [], 1), "add_histogram 'a': not logged: there are no values"),
    ("add_histogram", ("a", "text", 1), "add_histogram 'a'"),
    ("add_histogram_raw", ("a", 0, 1, 0, 0, 0, [], [], 1), "add_histogram_raw 'a'"),
    ("add_image", ("a", np.zeros((4, 4)), 1), "give them as dataformats"),
    ("add_image", ("a", np.zeros((5, 4, 4)), 1), "5 channels"),
    ("add_image", ("a", np.zeros((3, 4, 4)), 1, None, "CXY"), "letters of 'NCHW'"),
    ("add_images", ("a", np.zeros((0, 3, 4, 4)), 1), "no pictures"),
    ("add_video", ("a", np.zeros((3, 4, 4)), 1), r"(N, T, C, H, W)"),
    ("add_figure", ("a", None, 1), "log_image 'a': not logged: got a NoneType"),
    ("add_figure", ("a", [None], 1), "add_figure 'a'"),
    ("add_hparams", (None, {}), "add_hparams"),
    ("add_image_with_boxes", ("a", np.zeros((3, 4, 4)), np.zeros((1, 4))), "without its boxes"),
    ("add_audio", ("a", torch.zeros(1, 10)), "add_audio: not kept"),
    ("add_graph", (torch.nn.Linear(1, 1),), "add_graph: not kept"),
    ("add_onnx_graph", ("x",), "add_onnx_graph: not kept"),
    ("add_embedding", (torch.zeros(2, 2),), "add_embedding: not kept"),
    ("add_pr_curve", ("a", [1], [0.5]), "add_pr_curve: not kept"),
    ("add_pr_curve_raw", ("a", 1, 1, 1, 1, 1, 1), "add_pr_curve_raw: not kept"),
    ("add_custom_scalars", ({},), "add_custom_scalars: not kept"),
    ("add_custom_scalars_multilinechart", (["a"],), "multilinechart: not kept"),
    ("add_custom_scalars_marginchart", (["a", "b", "c"],), "marginchart: not kept"),
    ("add_mesh", ("a", torch.zeros(1, 3, 3)), "add_mesh: not kept"),
]


@pytest.mark.parametrize(("method", "arguments", "says"), WRONG, ids=lambda value: value if type(value) is str else "")
def test_what_cannot_be_kept_is_told_once_and_never_raises(
    method: str, arguments: tuple[Any, ...], says: str, logger: RecordingLogger, writer: SummaryWriter
) -> None:
    for _ in range(2):
        getattr(writer, method)(*arguments)
    (told,) = logger.warnings
    assert says in told


class Hostile:
    """What raises at whatever it is asked."""

    def _refuse(self, *arguments: Any) -> Any:
        raise RuntimeError("no")

    __float__ = __str__ = __len__ = __array__ = __bool__ = __int__ = item = _refuse


@pytest.mark.parametrize("method", [name for name in PUBLIC if name.startswith("add_")])
def test_nothing_that_is_given_raises(method: str, writer: SummaryWriter) -> None:
    call = getattr(writer, method)
    count = len(inspect.signature(call).parameters)
    for given in (Hostile(), None, 10**400, "\ud800", b"", [Hostile()], {1: Hostile()}, np.zeros((2, 2), object)):
        call(*[given] * count)


def test_every_method_is_tried_here() -> None:
    source = inspect.getsource(inspect.getmodule(test_every_method_is_tried_here))  # type: ignore[arg-type]
    tried = {name for name in PUBLIC if f"writer.{name}(" in source or f'"{name}"' in source}
    assert tried == set(PUBLIC)


def test_the_folder_the_flush_and_the_end(logger: RecordingLogger, writer: SummaryWriter) -> None:
    assert writer.log_dir == writer.get_logdir() == str(logger.run_dir)
    with writer as entered:
        assert entered is writer
    writer.flush()
    writer.close()
    writer.add_scalar("a", 1.0, 1)  # as with torch's, which opens another file
    assert logger.series("a") == [(1, 1.0)]
    assert logger.ended is None
    writer.add_tensor("t", torch.tensor([1.0, 3.0]), 1)
    assert logger.values("t/mean") == [2.0]


def test_adjacent_scalars_of_a_step_are_one_row_of_wandbs(tmp_path: Path) -> None:
    names = [f"losses/{name}" for name in ("value_loss", "policy_loss", "entropy")]
    config = {"wandb": {"mode": "offline", "dir": str(tmp_path)}}
    with ExperimentLogger(config, dir=tmp_path / "runs", delivery="offline", quiet=True) as logger:
        writer = logger.summary_writer()
        for step in (128, 256):
            for name in names:
                writer.add_scalar(name, step / 2, step)
        writer.add_scalar(names[0], 1.0, 256)  # what is there twice at a step is two rows
    done = run_command(f"rl-logging sync {logger.run_dir}", tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [{name: row[name] for name in row if not name.startswith("_")} for row in wandb_file.read(tmp_path).rows]
    assert rows == [
        {"global_step": 128, **dict.fromkeys(names, 64.0)},
        {"global_step": 256, **dict.fromkeys(names, 128.0)},
        {"global_step": 256, names[0]: 1.0},
    ]
