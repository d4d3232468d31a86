"""Windows of values on a device (a stand-in, which fails whoever looks): reduced there, to what the host would get."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from rl_logging.extraction import Interval, MetricFilter, NameTable, Pipeline, Rename, Window
from rl_logging.extraction.late import Late
from tests.support.cuda_stand_in import CudaTensor, on_cuda

FIGURES = [3.5, -2.0, 0.1, 7.0, 1e-3]


def read(tensor: Any) -> float:
    assert isinstance(tensor, CudaTensor)
    assert (tensor.dtype, tensor.shape) == (torch.float64, ())
    return float(tensor.as_subclass(torch.Tensor))


@pytest.mark.parametrize("how", ["last", "mean", "min", "max"])
@pytest.mark.parametrize("figures", [FIGURES, [math.nan, *FIGURES], [*FIGURES, math.inf], [0.5] * 1000 + FIGURES])
def test_reductions_are_those_of_the_host(how: str, figures: list[float]) -> None:
    window, on_host = Window(), Window()
    for number, figure in enumerate(figures):
        on_host.add("m", float(torch.tensor(figure)), how)
        given = on_cuda([figure] if number % 2 else figure)
        window.add("m", given, how)
        given.fill_(99.0)  # the environment goes on with its own
    [value] = window.drain().values()
    assert read(value) == pytest.approx(on_host.drain()["m"], nan_ok=True, rel=1e-12)
    assert window.drain() == {}


@pytest.mark.parametrize("how", ["last", "mean", "min", "max"])
@pytest.mark.parametrize("first_there", [True, False])
def test_numbers_and_tensors_of_one_name(how: str, first_there: bool) -> None:
    window, on_host = Window(), Window()
    for number, figure in enumerate([1.0, 5.0, 2.0, -1.0]):
        on_host.add("m", figure, how)
        there = (number >= 2) is not first_there
        window.add("m", on_cuda(int(figure)) if there else figure, how)
    assert read(window.drain()["m"]) == on_host.drain()["m"]


def test_a_pipeline_hands_on_what_is_still_there_under_its_names() -> None:
    rows: list[tuple[Any, ...]] = []
    pipeline = Pipeline(
        lambda *row: rows.append(row),
        NameTable({"loss": Rename("entropy", -2.0)}, str),
        names="canonical",
        metric_filter=MetricFilter(["!left_out*"]),
        interval=Interval.parse("framework"),
        warn=lambda key, message: pytest.fail(message),
    )
    late = Late(lambda: 1.0)
    pipeline.record("loss", on_cuda([1.0, 3.0]))
    pipeline.record("loss", on_cuda([2.0, 8.0]))
    pipeline.record("left_out", on_cuda([2.0, 8.0]))
    pipeline.emit(
        7, values={"x": on_cuda(4.0), "y": 1.0}, own={"norm": on_cuda(3.0), "left_out_too": late, "told": late}
    )
    [(values, step, later)] = rows
    assert step == 7
    assert [*values] == ["entropy/mean", "entropy/std", "entropy/max", "entropy/min", "x", "y", "norm", "told"]
    assert {name for name, value in values.items() if value == value} == {"y"}
    assert later.pop("told") is late
    found = {name: float(tensor.as_subclass(torch.Tensor)) for name, tensor in later.items()}
    assert found == {
        "entropy/mean": -7.0,
        "entropy/std": 4.0,
        "entropy/max": -2.0,
        "entropy/min": -16.0,
        "x": 4.0,
        "norm": 3.0,
    }
