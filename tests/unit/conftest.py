"""What the tests of text readers share."""

import pytest
from ranks import read

from distsoftmax.errors import InputError


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
