from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glueball.engine import Schedule, ScheduleSpec


def schedule(total: int = 100, per_epoch: int = 10, rate: float = 1.0, **spec: object) -> Schedule:
    return Schedule(ScheduleSpec(**spec), rate, total, per_epoch)  # type: ignore[arg-type]


def test_cosine_follows_its_formula() -> None:
    rate = schedule(name="cosine")
    assert rate(0) == pytest.approx(1.0)
    assert rate(50) == pytest.approx(0.5)
    assert rate(99) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.99)))
    assert rate(100) == pytest.approx(0.0, abs=1e-12)


def test_poly_linear_constant() -> None:
    assert schedule(name="poly", power=0.9)(50) == pytest.approx(0.5**0.9)
    assert schedule(name="linear", final=0.1)(50) == pytest.approx(0.55)
    assert schedule(name="constant")(73) == 1.0


def test_step_multiplies_at_milestones() -> None:
    rate = schedule(name="step", milestones=(3.0, 6.5), factor=0.1)
    assert [rate(29), rate(30), rate(64), rate(65)] == pytest.approx([1.0, 0.1, 0.1, 0.01])


def test_warmup_rises_in_a_line_and_the_schedule_begins_at_its_top() -> None:
    rate = schedule(name="cosine", warmup=1.0)
    assert [rate(step) for step in range(10)] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rate(10) == pytest.approx(1.0)
    assert schedule(name="constant", warmup=1.0, warmup_start=0.5)(0) == pytest.approx(0.55)


@given(
    name=st.sampled_from(["constant", "linear", "cosine", "poly", "step"]),
    warmup=st.floats(0, 20),
    total=st.integers(1, 500),
    per_epoch=st.integers(1, 100),
)
def test_rates_within_training_are_positive_and_never_above_the_peak(
    name: str, warmup: float, total: int, per_epoch: int
) -> None:
    rate = schedule(total, per_epoch, 0.3, name=name, warmup=warmup, milestones=(1.0,))
    for step in range(total):
        assert 0 < rate(step) <= 0.3 + 1e-12


def test_a_schedule_needs_no_more_than_zero_steps_after_warmup() -> None:
    rate = schedule(total=10, per_epoch=10, name="cosine", warmup=3.0)
    assert rate(9) == pytest.approx(10 / 30)
