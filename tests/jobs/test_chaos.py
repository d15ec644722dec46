"""Whatever happens to a run at a random moment, it ends by itself, in the bits of the run to which nothing happened."""

import os

import chaos
import pytest
from conftest import OPEN_MPI, TRAININGS

from distsoftmax.model import load_model

SEED = os.environ["DISTSOFTMAX_TEST_SEED"]
CASES = [chaos.draw(SEED, number, can_repair=OPEN_MPI) for number in range(200)]
RESUMABLE = 75


@pytest.fixture(scope="module")
def undisturbed(shared_run, shared_folder):
    """The folder of each problem's run, in which nothing happened."""
    chaos.write_samples(shared_folder)
    ended = shared_run("mpirun", "-n", 2, "python", TRAININGS, *map(chaos.reference_options, chaos.PROBLEMS))
    assert ended.status == 0, ended.err
    return shared_folder


@pytest.mark.launcher
@pytest.mark.sweep(12)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_run_survives_what_happens_to_it(case, undisturbed, run, tmp_path):
    chaos.write_samples(tmp_path)
    marks = tmp_path / "marks"
    marks.mkdir()
    environment = chaos.environment(case, undisturbed / case.problem, marks)
    ended = run(*chaos.words(case, "run"), env=environment, deadline=chaos.DEADLINE)
    story = f"{environment['FAULTS']}\n{ended.out}\n{ended.err}"
    assert not chaos.unfired(case, marks), story
    if ended.status == RESUMABLE and any(fault.what == "terminate" for fault in case.faults):
        assert not chaos.processes_of(marks), story
        ended = run(*chaos.words(case, "run"), env=environment, deadline=chaos.DEADLINE)
        story += f"\n{ended.out}\n{ended.err}"
    assert ended.status == 0, story
    assert not chaos.processes_of(marks), story
    expected = undisturbed / case.problem
    assert (
        load_model(tmp_path / "run" / "model.safetensors").sha256 == load_model(expected / "model.safetensors").sha256
    )
    assert chaos.metrics(tmp_path / "run") == chaos.metrics(expected), story
    assert not chaos.leftovers(tmp_path / "run"), story
