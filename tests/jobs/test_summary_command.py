"""The table of a model under mpirun, after a training: unit tests show what it says."""

import sys


def test_a_trained_model_has_the_same_table_with_and_without_mpirun(run, mpirun, table):
    words = ("--data", table, "--label", "kind")
    trained = mpirun(2, "train", *words, "--l2", "1e-3", "--out", "out", deadline=60)
    assert trained.status == 0, trained
    by_itself = run(sys.executable, "-m", "distsoftmax.summary", "out", *words, deadline=60)
    assert (by_itself.status, by_itself.err) == (0, "")
    job = mpirun(3, "summary", "out", *words, deadline=60)
    assert (job.status, job.out, job.err) == (0, by_itself.out, "")
    assert "H^-1 I H^-1 of the L2-penalised estimates" in job.out
