"""What unit tests share: files of text and the complaints about them, jobs whose ranks are threads."""

import pytest
from command_jobs import job_runner
from hypothesis import HealthCheck, settings
from ranks import read

from distsoftmax.errors import InputError

# how long an example takes depends on what else the machine does
settings.register_profile("distsoftmax", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("distsoftmax")


@pytest.fixture
def write(tmp_path):
    """Write a file and return its path."""

    def write(content, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def complaint(write):
    """Return what is said of CSV files that are refused."""

    def complaint(*contents, **options):
        if len(contents) == 1:
            paths = [write(contents[0])]
        else:
            paths = [write(content, f"{name}.csv") for name, content in zip("abcdefg", contents, strict=False)]
        with pytest.raises(InputError, match=r"\.csv(: | and )") as caught:
            read(*paths, **{"format": "csv", **options})
        return str(caught.value)

    return complaint


@pytest.fixture
def job(tmp_path, monkeypatch, capsys):
    """Run a command on so many ranks, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    return job_runner(monkeypatch, capsys)
