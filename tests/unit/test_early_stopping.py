import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distsoftmax.training.early_stopping import EarlyStopping


def after(losses, every=10):
    """The record after evaluations every so many steps, from step 0 on."""
    record = EarlyStopping()
    for place, loss in enumerate(losses):
        record = record.evaluated(place * every, loss, np.full(2, float(place)))
    return record


LOSSES = st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.3000001, math.inf, math.nan]), max_size=12)


@given(LOSSES)
def test_the_best_is_the_first_of_the_lowest(losses):
    record = after(losses)
    finite = [loss for loss in losses if loss < math.inf]
    if not finite:
        assert record.parameters is None
        return
    place = losses.index(min(finite))
    assert (record.step, record.log_loss, record.parameters.tolist()) == (10 * place, min(finite), [place, place])
    assert record.n_worse == len(losses) - 1 - place


@given(LOSSES, st.integers(0, 12))
def test_a_step_that_is_evaluated_again_after_a_resume_counts_once(losses, again):
    record = after(losses)
    resumed = record.evaluated(10 * (len(losses) - 1), 0.0, np.zeros(2)) if losses else record
    assert resumed is record


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_a_run_ends_after_so_many_evaluations_that_are_not_lower(patience):
    losses = [0.5, 0.4, 0.45, 0.3, 0.3, 0.31, 0.32, 0.33]
    ends = [n for n in range(1, len(losses) + 1) if after(losses[:n]).stop_reason(patience)]
    assert ends[0] == {1: 3, 2: 6, 3: 7}[patience]


@pytest.mark.parametrize(("n_worse", "words"), [(1, "for 1 evaluation"), (4, "for 4 evaluations")])
def test_the_reason_says_for_how_long(n_worse, words):
    reason = after([0.1] + [0.2] * n_worse).stop_reason(n_worse)
    assert reason == f"the held-out log loss has not fallen {words}"


def test_the_record_is_left_as_it_was():
    record = after([0.5])
    record.evaluated(10, 0.1, np.ones(2))
    assert (record.step, record.log_loss, record.n_worse, record.last_step) == (0, 0.5, 0, 0)
