"""Norms of gradients that torch itself clips."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from rl_logging.adapters.gradients import GradientNorms


def clip(*gradient: float) -> Any:
    parameter = torch.nn.Parameter(torch.zeros(len(gradient)))
    parameter.grad = torch.tensor(gradient)
    return torch.nn.utils.clip_grad_norm_([parameter], 1.0)


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = torch.nn.utils.clip_grad_norm_
    yield
    assert torch.nn.utils.clip_grad_norm_ is before


def test_the_mean_since_the_last_call() -> None:
    norms = GradientNorms()
    clip(100.0)
    norms.start()
    assert float(clip(3.0, 4.0)) == 5.0
    clip(9.0, 12.0)
    assert norms.drain() == 10.0
    assert norms.drain() is None
    clip(7.0)
    norms.stop()
    clip(100.0)
    norms.stop()
    assert norms.drain() == 7.0


def test_starting_twice_hears_once() -> None:
    norms = GradientNorms()
    norms.start()
    norms.start()
    clip(1.0)
    norms.stop()
    norms.start()
    clip(2.0)
    norms.stop()
    assert norms.drain() == 1.5


def test_a_pause() -> None:
    norms = GradientNorms()
    norms.start()
    norms.pause()
    clip(100.0)
    norms.resume()
    clip(2.0)
    norms.pause()
    clip(100.0)
    norms.stop()
    assert norms.drain() == 2.0


def test_many_take_no_more_memory_than_a_few() -> None:
    norms = GradientNorms()
    norms.start()
    for number in range(2000):
        clip(float(number))
    assert len(norms._norms) + len(norms._sums) < 300
    norms.stop()
    assert norms.drain() == pytest.approx(999.5)


def test_one_that_is_not_finite() -> None:
    norms = GradientNorms()
    norms.start()
    clip(1.0)
    clip(float("nan"))
    norms.stop()
    mean = norms.drain()
    assert mean is not None
    assert mean != mean


def test_each_thread_for_itself() -> None:
    heard: dict[int, float | None] = {}
    ready, over = threading.Barrier(4, timeout=180), threading.Barrier(4, timeout=180)

    def train(number: int) -> None:
        norms = GradientNorms()
        norms.start()
        ready.wait()
        for _ in range(50):
            clip(float(number))
        over.wait()
        norms.stop()
        heard[number] = norms.drain()

    threads = [threading.Thread(target=train, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    ready.wait()
    clip(1000.0)
    over.wait()
    for thread in threads:
        thread.join(timeout=180)
    assert heard == {1: 1.0, 2: 2.0, 3: 3.0}


def test_two_leave_in_any_order() -> None:
    first, second = GradientNorms(), GradientNorms()
    first.start()
    second.start()
    clip(1.0)
    first.stop()
    clip(3.0)
    second.stop()
    assert (first.drain(), second.drain()) == (1.0, 2.0)


def test_what_somebody_puts_over_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    norms = GradientNorms()
    norms.start()
    ours = torch.nn.utils.clip_grad_norm_
    theirs = lambda *args: ours(*args)  # noqa: E731
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", theirs)
    clip(1.0)
    norms.stop()
    assert torch.nn.utils.clip_grad_norm_ is theirs
    clip(100.0)
    norms.start()
    clip(2.0)  # through theirs and what is left below it, but heard once
    norms.stop()
    assert torch.nn.utils.clip_grad_norm_ is theirs
    assert norms.drain() == 1.5
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", ours.__wrapped__)


def test_an_error_of_torch_is_the_callers() -> None:
    norms = GradientNorms()
    norms.start()
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.tensor([float("inf")])
    with pytest.raises(RuntimeError, match="non-finite"):
        torch.nn.utils.clip_grad_norm_([parameter], 1.0, error_if_nonfinite=True)
    norms.stop()
    assert norms.drain() is None


def test_who_compiles_it_meanwhile_can() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, 4.0])
    compiled = torch.compile(lambda: torch.nn.utils.clip_grad_norm_([parameter], 10.0), backend="eager", fullgraph=True)
    norms = GradientNorms()
    norms.start()
    assert float(compiled()) == 5.0
    norms.stop()
    assert norms.drain() is None
    assert float(compiled()) == 5.0
