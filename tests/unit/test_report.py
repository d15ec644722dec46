"""What is said at the end of a run and of a path."""

import signal
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ranks import on_ranks

from distsoftmax.arithmetic import library
from distsoftmax.cluster.control import TimeUp
from distsoftmax.config import ObjectiveConfig, RunConfig, SolverConfig, TrainConfig
from distsoftmax.coordinator import report
from distsoftmax.coordinator.report import choose, closing, interrupted, opening, path_closing
from distsoftmax.objective.cross_entropy import Scores
from distsoftmax.solvers.protocol import Certificate, Evaluation
from distsoftmax.solvers.state import State
from distsoftmax.training.early_stopping import EarlyStopping
from distsoftmax.training.result import Interruption, Leg, Result, Review, conclude


def result(**changes):
    facts = {
        "reason": "the certified gap is below 0.0001 of the objective",
        "converged": True,
        "n_steps": 12,
        "exhausted": False,
        "step": 12,
        "objective": 0.5,
        "gap": 3.1e-7,
        "least_gap": 1e-15,
        "relative_gradient": 1e-6,
        "training": Scores(0.9, 0.4),
        "held_out": Scores(0.8, 0.45),
        "n_used_features": 2,
        "n_nonzero": 5,
        "parameters": np.ones((2, 4)),
    }
    return Result(**{**facts, **changes})


def said(found, dtype="float32", **options):
    config = TrainConfig(
        objective=ObjectiveConfig(**{name: options.pop(name) for name in ("l1", "group") if name in options}),
        solver=SolverConfig(**options),
    )
    dataset = SimpleNamespace(n_training=100, n_held_out=20, dtype=np.dtype(dtype), classes=("x", "y"))
    dataset.encoding = SimpleNamespace(feature_names=("a", "b", "c"))
    return closing(found, config, dataset, "abc", Path("run/model.safetensors")).splitlines()


def test_the_last_lines_say_how_good_the_model_is():
    assert said(result()) == [
        "stopped: the certified gap is below 0.0001 of the objective, after 12 steps",
        "objective: 0.5",
        "certified gap: within 3.1e-07 of the optimum (6.2e-07 of the objective), certified",
        "accuracy: 0.8000 on 20 held-out samples, 0.9000 on 100 training samples",
        "model: run/model.safetensors",
        "model sha256 abc",
    ]


def test_without_a_certificate_it_is_said_what_gives_one():
    assert "certified gap: none: it takes an L2 term (--l2)" in said(result(gap=None))


def test_an_objective_of_0_has_no_relative_gap():
    assert "certified gap: within 1e-12 of the optimum, certified" in said(result(gap=1e-12, objective=0.0))


def notes(found, **options):
    return [line for line in said(found, **options) if line.startswith("note: ")]


def test_a_tolerance_below_what_the_arithmetic_reaches_is_named_with_the_remedy():
    (note,) = notes(result(converged=False, exhausted=True, gap=1e-4), tolerance=1e-9)
    assert note == (
        "note: --tolerance 1e-09 was not reached: the gap is 0.0002 of the objective; as close as float32 comes; take "
        "--dtype float64"
    )
    (note,) = notes(result(converged=False, exhausted=True, gap=1e-4), tolerance=1e-9, dtype="float64")
    assert note.endswith("as close as float64 comes")
    (note,) = notes(result(converged=False, exhausted=True, gap=None), tolerance=1e-9)
    assert "the gradient's norm is 1e-06 of its first" in note


def test_the_gap_that_can_be_proven_is_in_units_of_the_objective():
    (note,) = notes(result(converged=False, gap=4e-3, objective=0.01, least_gap=3e-3), tolerance=1e-9)
    assert "the gap is 0.4 of the objective; float64 can prove no less than 0.3 here" in note


def test_a_limit_that_ended_the_run_before_its_tolerance_is_named_with_the_remedy():
    (note,) = notes(result(converged=False, gap=1e-4), tolerance=1e-9)
    assert note.endswith("the gap is 0.0002 of the objective; the same command with more --max-steps goes on from here")
    (note,) = notes(result(converged=False, gap=1e-4), tolerance=1e-9, solver="sgd")
    assert note.endswith("more --epochs come closer, other solvers reach it")


def test_a_tolerance_that_was_met_or_not_asked_for_needs_no_note():
    assert not notes(result(exhausted=True), tolerance=1e-4)
    assert not notes(result(converged=False, exhausted=True, gap=1.0), tolerance=0.0)
    assert not notes(result(gap=None), tolerance=1e-4)
    assert not notes(result(gap=1.0), tolerance=1e-4, patience=3)


@pytest.mark.parametrize("penalty", ["l1", "group"])
def test_a_penalty_that_leaves_features_out_says_how_many_are_left(penalty):
    assert "features: 2 of 3 are used, 5 of 6 coefficients are not 0" in said(result(), **{penalty: 0.1})
    assert not any(line.startswith("features") for line in said(result()))


def test_with_patience_the_step_of_the_model_is_named():
    expected = "kept: the model of step 9, with the lowest held-out log loss, 0.45"
    assert expected in said(result(step=9), patience=2)


@pytest.mark.parametrize(
    ("run", "cause"),
    [
        (RunConfig(deadline="2100-01-01T00:00"), "stopped by --deadline 2100-01-01T00:00 after step 7"),
        (RunConfig(), "stopped by the coming end of the Slurm job after step 7"),
    ],
    ids=str,
)
def test_a_deadline_that_ended_a_run_is_named(run, cause):
    ended = Interruption(7, 0, TimeUp.DEADLINE)
    assert interrupted(ended, TrainConfig(run=run), Path("run"), 1).splitlines()[1].startswith(cause)


def test_what_the_solver_remarked_is_said():
    assert "note: the first matrix was dropped" in said(result(remark="the first matrix was dropped"))
    assert not any(line.startswith("note:") for line in said(result()))


@pytest.mark.parametrize(
    ("number", "cause"), [(signal.SIGTERM, "stopped by SIGTERM"), (0, "stopped by --max-seconds 2.5")]
)
def test_an_interruption_says_its_cause_and_how_to_go_on(number, cause):
    config = TrainConfig(solver=SolverConfig(max_seconds=2.5))
    lines = interrupted(Interruption(7, int(number)), config, Path("a run"), 3).splitlines()
    assert lines == [
        "model so far: a run/model.safetensors",
        f"{cause} after step 7; go on with",
        "mpirun -n 3 python -m distsoftmax.train --config 'a run/config.toml'",
    ]
    assert "after step 7 of l2 0.1 (1 of 2);" in interrupted(
        Interruption(7, int(number)), config, Path("a"), 3, "l2 0.1 (1 of 2)"
    )


class Measured:
    """An objective that is certified to 1e-9 wherever it is asked to, and what it was asked."""

    def __init__(self, *, certifies=True):
        self.certified, self.scored, self.certifies = [], [], certifies

    def certify(self, parameters, enough=0.0):
        self.certified.append(parameters)
        return Certificate(0.25, 0.0, 0.25 - 1e-9, 1e-9, 0.0)

    def scores(self, parameters, *, held_out):
        self.scored.append((parameters, held_out))
        return Scores(0.5, 0.2 if held_out else 0.1)


def state(**changes):
    facts = {
        "step": 5,
        "parameters": np.arange(8.0).reshape(2, 4),
        "evaluation": Evaluation(0.5, np.ones((2, 4)), 0.5, lower_bound=0.1, reachable_bound=0.1),
        "lower_bound": 0.1,
        "first_value": 1.0,
        "first_gradient_norm": 2.0,
        "step_size": 1.0,
        "exhausted": False,
    }
    return State(**{**facts, **changes})


def concluded(objective, last, best=None, held_out=None, tolerance=1e-4):
    return conclude(objective, last, Review(best or EarlyStopping(), held_out, "why"), tolerance)


def test_a_gap_that_is_not_as_small_as_asked_is_measured_once_more():
    objective = Measured()
    found = concluded(objective, state())
    assert len(objective.certified) == 1
    assert (found.objective, found.gap) == (0.25, pytest.approx(1e-9))


@pytest.mark.parametrize("certificate", [Certificate(0.5, 0.0, 0.5 - 1e-6, 1e-6, 0.0), None])
def test_a_gap_as_small_as_asked_and_no_gap_cost_nothing(certificate):
    objective = Measured(certifies=certificate is not None)
    found = concluded(objective, state(certificate=certificate))
    assert not objective.certified
    assert found.objective == 0.5


def test_the_best_model_is_the_one_that_is_measured():
    best = EarlyStopping(step=3, log_loss=0.2, parameters=np.zeros((2, 4)), last_step=4, n_worse=1)
    objective = Measured()
    found = concluded(objective, state(), best, Scores(0.4, 0.3))
    assert (found.step, found.n_steps, found.objective, found.n_nonzero) == (3, 5, 0.25, 0)
    assert found.held_out == Scores(0.5, 0.2)
    assert all(parameters is best.parameters for parameters, _ in objective.scored)


def test_the_last_model_is_kept_where_it_is_better_than_the_best_before():
    best = EarlyStopping(step=3, log_loss=0.2, parameters=np.zeros((2, 4)), last_step=4, n_worse=1)
    found = concluded(Measured(), state(), best, Scores(0.4, 0.1))
    assert (found.step, found.held_out.log_loss) == (5, 0.1)
    np.testing.assert_array_equal(found.parameters, state().parameters)


def test_features_count_where_any_class_uses_them():
    parameters = np.array([[0.0, 1.0, 0.0, 9.0], [0.0, 2.0, 3.0, 9.0]])
    found = concluded(Measured(), state(parameters=parameters))
    assert (found.n_used_features, found.n_nonzero) == (2, 3)


def legs(*losses):
    held_out = [None if loss is None else Scores(0.5, loss) for loss in losses]
    return [
        Leg(10.0**-place, Path(f"{place}"), 1.0, f"sha{place}", result(held_out=scores))
        for place, scores in enumerate(held_out)
    ]


@pytest.mark.parametrize(
    ("losses", "place"),
    [([0.3, 0.1, 0.2], 1), ([0.1, 0.1], 0), ([np.nan, 0.5, np.inf], 1), ([None, None, None], 2), ([np.inf, np.inf], 0)],
    ids=str,
)
def test_the_lowest_held_out_log_loss_is_chosen_else_the_last(losses, place):
    found = legs(*losses)
    assert choose(found) is found[place]


def test_the_table_marks_what_is_chosen():
    found = legs(0.3, 0.1, 0.2)
    lines = path_closing(found, found[1], Path("out/model.safetensors")).splitlines()
    assert [line.endswith("< lowest held-out log loss") for line in lines[2:5]] == [False, True, False]
    assert lines[1].split() == [
        "l2", "objective", "gap", "steps", "seconds", "features", "accuracy", "log", "loss", "accuracy", "log", "loss",
    ]  # fmt: skip
    assert " ".join(lines[2].split()) == "1 0.50000000 3.1e-07 12 1.0 2 0.9000 0.40000 0.5000 0.30000"
    assert lines[-3:] == [
        "chosen: l2 0.1, by its held-out log loss",
        "model: out/model.safetensors",
        "model sha256 sha1",
    ]


def test_a_table_without_held_out_samples_says_that_there_is_nothing_to_choose_by():
    found = legs(None, None)
    text = path_closing(found, found[1], Path("m"))
    assert "no samples are held out to choose by: the model is that of the last" in text
    assert "held-out log loss" not in text


def test_the_opening_names_what_each_kind_of_rank_computes_with(monkeypatch):
    names = {
        "rank 0": "arithmetic 1 on x86-64-v4",
        "rank 1": "arithmetic 1 on aarch64",
        "rank 2": "arithmetic 1 on aarch64",
    }
    monkeypatch.setattr(library, "describe", lambda: names[threading.current_thread().name])
    dataset = SimpleNamespace(n_training=100, n_held_out=0, dtype=np.dtype("float32"), classes=("x", "y"), sparse=False)
    dataset.encoding, dataset.notes = SimpleNamespace(feature_names=("a", "b", "c")), ()
    dataset.n_shards, dataset.n_rows, dataset.bytes_held, dataset.bytes_spooled = 4, 100, 0, 0
    for text in on_ranks(3, lambda rank: opening(dataset, rank, 1)):
        assert "arithmetic 1 on aarch64, arithmetic 1 on x86-64-v4" in text.splitlines()


@pytest.mark.parametrize(
    ("n_shards", "n_rows", "note"),
    [
        (3, 100, None),
        (2, 100, "note: 1 ranks have no shard; --shards 12 gives each at least one (another sum, so the model's bits "
                 "change); with 2 shards no more than 2 ranks are of use"),
        (2, 5, "note: 1 ranks have no shard; --shards 5 gives each at least one (another sum, so the model's bits "
               "change); with 2 shards no more than 2 ranks are of use"),
        (2, 2, "note: 1 ranks have no shard; there are 2 samples, and more ranks than samples are of no use"),
    ],
)  # fmt: skip
def test_more_ranks_than_shards_are_told_how_many_shards_to_ask_for(n_shards, n_rows, note):
    dataset = SimpleNamespace(n_training=n_rows, n_held_out=0, dtype=np.dtype("float32"), classes="xy", sparse=False)
    dataset.encoding, dataset.notes = SimpleNamespace(feature_names=("a",)), ()
    dataset.n_shards, dataset.n_rows, dataset.bytes_held, dataset.bytes_spooled = n_shards, n_rows, 2**30, 0
    for text in on_ranks(3, lambda rank: opening(dataset, rank, 1)):
        assert [line for line in text.splitlines() if "no shard" in line] == ([note] if note else [])


@pytest.mark.parametrize(("size", "is_said"), [(2**30, True), (6000, False)], ids=["large", "tiny"])
def test_idle_cores_and_ranks_are_a_topic_only_where_they_would_be_felt(size, is_said, monkeypatch):
    monkeypatch.setattr(report, "_cores", lambda: 64)
    dataset = SimpleNamespace(n_training=150, n_held_out=0, dtype=np.dtype("float32"), classes="xyz", sparse=False)
    dataset.encoding, dataset.notes = SimpleNamespace(feature_names=("a",)), ("what matters",)
    dataset.n_shards, dataset.n_rows, dataset.bytes_held, dataset.bytes_spooled = 8, 150, size, 0
    for text in on_ranks(3, lambda rank: opening(dataset, rank, 1)):
        assert "note: what matters" in text
        assert ("cores are idle; mpirun -n 8 " in text) == is_said
