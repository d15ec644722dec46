"""Arrays in scratch: what comes back, what is left behind, and what is said where there is no room."""

import errno
import gc
import os

import numpy as np
import psutil
import pytest

from distsoftmax.data import spool as spool_module
from distsoftmax.data.spool import Spool
from distsoftmax.errors import OutputError
from distsoftmax.tensor_file import map_file

MIB = 1 << 20


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "uint8", "int64", "bool"])
@pytest.mark.parametrize("shape", [(7,), (5, 3), (0, 3), (3, 0), (1000, 100)], ids=str)
def test_arrays_come_back_as_they_were(tmp_path, monkeypatch, dtype, shape):
    monkeypatch.setattr(spool_module, "FIRST_BYTES", 4096)  # many files
    generator = np.random.default_rng(0)
    arrays = [(generator.random(shape) * 100).astype(dtype) for _ in range(20)]
    spool = Spool(str(tmp_path))
    kept = [spool.keep(array) for array in arrays]
    spool.release()
    for array, again in zip(arrays, kept, strict=True):
        assert again.dtype == array.dtype
        np.testing.assert_array_equal(again, array)
        assert again.flags.c_contiguous


def test_an_array_that_is_not_contiguous_is_kept_row_by_row(tmp_path):
    array = np.arange(24.0).reshape(4, 6).T
    np.testing.assert_array_equal(Spool(str(tmp_path)).keep(array), array)


def test_what_is_kept_cannot_be_written_to(tmp_path):
    with pytest.raises(ValueError, match="read-only"):
        Spool(str(tmp_path)).keep(np.ones(3))[0] = 2.0


def test_files_have_no_names_and_their_room_is_given_back_with_the_last_array(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "FIRST_BYTES", 8 * MIB)
    spool = Spool(str(tmp_path))
    kept = [spool.keep(np.random.default_rng(0).random(MIB)) for _ in range(12)]  # of 8 MiB each
    assert list(tmp_path.iterdir()) == []
    n_open = psutil.Process().num_fds()
    last = kept.pop()
    kept.clear()
    gc.collect()
    assert psutil.Process().num_fds() < n_open
    np.testing.assert_array_equal(last, np.random.default_rng(0).random(MIB))


def test_arrays_that_were_used_leave_the_memory_of_the_process(tmp_path):
    spool = Spool(str(tmp_path))
    kept = [spool.keep(np.ones(4 * MIB)) for _ in range(8)]  # 256 MiB

    def resident():
        return psutil.Process().memory_info().rss

    spool.release()
    before, most = resident(), 0
    for array in kept:
        assert array.sum() == 4 * MIB
        spool.used(array.nbytes)
        most = max(most, resident())
    assert most - before < 160 * MIB


def test_arrays_in_an_adopted_file_stay_there_and_leave_the_memory_of_the_process(tmp_path):
    path, spool = tmp_path / "arrays", Spool(str(tmp_path))
    np.ones(4 * MIB).tofile(path)
    content = map_file(path)
    array = np.frombuffer(content)
    spool.adopt(content)
    assert spool.keep(array) is array
    before = psutil.Process().memory_info().rss
    assert array.sum() == 4 * MIB
    assert psutil.Process().memory_info().rss - before > 20 * MIB
    spool.release()
    assert psutil.Process().memory_info().rss - before < 4 * MIB


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(OutputError, match=r"--scratch .*nowhere: cannot be written: No such file.*name a folder"):
        Spool(str(tmp_path / "nowhere")).keep(np.ones(3))
    with pytest.raises(OutputError, match=r"--scratch .*nowhere: No such file.*name a folder"):
        Spool(str(tmp_path / "nowhere")).require_disk(1)


def test_too_little_room_is_seen_beforehand_and_on_the_way(tmp_path, monkeypatch):
    with pytest.raises(OutputError, match=r"has \d+ MiB free, and \d{13} MiB are needed.*larger disk"):
        Spool(str(tmp_path)).require_disk(1 << 60)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OutputError, match=r"cannot be written: No space left on device; name a folder"):
        Spool(str(tmp_path)).keep(np.ones(3))


def test_scratch_in_memory_is_told_from_a_disk(tmp_path):
    in_memory = [disk.mountpoint for disk in psutil.disk_partitions(all=True) if disk.fstype == "tmpfs"]
    if not in_memory:
        pytest.skip("no tmpfs is mounted here")
    assert Spool(max(in_memory, key=len)).lies_in_memory
    assert not Spool("/usr").lies_in_memory
