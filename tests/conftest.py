"""What all tests share: sweeps too long for every run, of which a sample is drawn, and how many workers run tests.

A test marked `sweep(n)` runs n of its parameters, and the fixture `drawn` takes so many of a list. Both draw by
DISTSOFTMAX_TEST_SEED, which the end of the output names; a seed that is not given is drawn itself. With --full
everything runs.
"""

import functools
import os
import random
import secrets
import signal

import numpy as np
import pytest

SEED = "DISTSOFTMAX_TEST_SEED"
os.environ.setdefault(SEED, str(secrets.randbelow(2**32)))  # in the environment, so that all workers draw the same
# A shell that runs the tests in its background, or nohup, lets them ignore these, and so would all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="run every sweep as a whole, not a sample of it")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Start a worker for each core that this process may use; xdist itself counts all."""
    from distsoftmax.cluster.cores import own_grant

    return len(own_grant().cores)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config, specs):
    """Let scikit-learn and scipy use one thread in each worker: there are as many workers as cores."""
    os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")


def random_of(name):
    return random.Random(f"{os.environ[SEED]} {name}")


@pytest.hookimpl(trylast=True)  # after -k and -m have chosen
def pytest_collection_modifyitems(config, items):
    """Draw the parameters of each sweep, each by its name: the same for tests that share what they compute of it."""
    if config.option.full:
        return
    sweeps = {}
    for item in items:
        if item.get_closest_marker("sweep"):
            sweeps.setdefault((item.path, item.originalname), []).append(item)
    left_out = set()
    for tests in sweeps.values():
        (n,) = tests[0].get_closest_marker("sweep").args
        left_out.update(sorted(tests, key=lambda test: random_of(test.callspec.id).random())[n:])
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def sample_of(request):
    """Return n of the items of a sweep, in their order, drawn by a name; with --full all of them."""

    def sample_of(name, items, n):
        items = list(items)
        if request.config.option.full:
            return items
        return [items[number] for number in sorted(random_of(name).sample(range(len(items)), n))]

    return sample_of


@pytest.fixture
def drawn(request, sample_of):
    """Return n of the items of a test's sweep, in their order; with --full all of them."""
    return functools.partial(sample_of, request.node.nodeid)


def pytest_terminal_summary(terminalreporter, config):
    if not config.option.full:
        terminalreporter.write_line(f"sweeps were sampled: {SEED}={os.environ[SEED]} draws the same, --full runs all")


@pytest.fixture
def table(tmp_path):
    """A small CSV file with a header, and what is in it."""
    generator = np.random.default_rng(0)
    features = generator.standard_normal((300, 4)).round(6)
    kinds = np.array(["cat", "dog", "eel"])[(features @ [1, 2, -1, 0] > 0).astype(int) + (features[:, 0] > 0.5)]
    path = tmp_path / "table.csv"
    lines = ["a,b,kind,c,d"]
    lines += [f"{a!r},{b!r},{kind},{c!r},{d!r}" for (a, b, c, d), kind in zip(features.tolist(), kinds, strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path
