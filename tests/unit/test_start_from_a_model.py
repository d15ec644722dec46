"""Runs that start from a model."""

import re

import numpy as np
import pytest

from distsoftmax.model import load_model

GRADIENT = ["--solver", "gradient-descent", "--dtype", "float64", "--l2", 1e-3, "--tolerance", 1e-5]


def steps(ended):
    assert ended.status == 0, ended.err
    return int(re.search(r"^stopped: .*, after (\d+) steps?$", ended.out, re.MULTILINE)[1])


def test_a_run_from_a_finished_model_soon_ends_with_the_same_model(job, tmp_path):
    cold = job(2, "train", *GRADIENT, "--out", "cold")
    assert steps(cold) > 20
    for place in ("cold", "cold/model.safetensors"):
        warm = job(3, "train", *GRADIENT, "--init", place, "--out", f"warm-{len(place)}")
        assert steps(warm) <= 3
        one, other = (
            load_model(tmp_path / out / "model.safetensors").parameters for out in ("cold", f"warm-{len(place)}")
        )
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_a_run_from_the_model_of_a_near_penalty_is_shorter(job):
    cold = job(2, "train", *GRADIENT, "--out", "cold")
    near = job(2, "train", *GRADIENT, "--l2", 1.1e-3, "--out", "near")
    warm = job(2, "train", *GRADIENT, "--init", "near", "--out", "warm")
    assert steps(near) > steps(cold) / 2
    assert steps(warm) < 0.7 * steps(cold)


def test_bits_from_a_model_do_not_depend_on_the_number_of_ranks_or_on_an_interruption(job):
    assert job(2, "train", "--max-steps", 3, "--out", "before").status == 0
    options = ["--l2", 1e-3, "--tolerance", 0, "--init", "before"]
    found = {n: job(n, "train", *options, "--max-steps", 9, "--out", f"on-{n}").sha256 for n in (1, 2, 3)}
    job(3, "train", *options, "--max-steps", 4, "--out", "cut")
    found["cut"] = job(2, "train", *options, "--max-steps", 9, "--out", "cut").sha256
    assert len(set(found.values())) == 1, found


@pytest.mark.parametrize("options", [[], ["--center", "yes"], ["--no-standardize"], ["--no-intercept"]], ids=str)
def test_sparse_samples_start_from_a_model_too(job, tmp_path, options):
    generator = np.random.default_rng(0)
    lines = []
    for _ in range(200):
        columns = np.flatnonzero(generator.random(12) < 0.3)
        kind = int(columns.size and columns[0] < 4)
        lines.append(f"{kind} " + " ".join(f"{column + 1}:{generator.normal(2):.4f}" for column in columns))
    (tmp_path / "rows.svm").write_text("\n".join(lines) + "\n")
    options = ["--data", "rows.svm", "--n-features", 12, *options, *GRADIENT]
    cold = job(2, "train", *options, "--out", "cold")
    warm = job(2, "train", *options, "--init", "cold", "--out", "warm")
    assert steps(warm) < steps(cold) / 4
