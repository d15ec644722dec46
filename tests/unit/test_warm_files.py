"""The files of prepared shards: which bytes they take for whole."""

import hashlib
import os

import numpy as np
import pytest
from memory_source import MemorySource
from objectives import dataset_of

from distsoftmax.cluster.communicator import Alone
from distsoftmax.data.facts import facts_in
from distsoftmax.errors import DamagedFile, InputError
from distsoftmax.tensor_file import TENSOR_TYPES, map_file, tensor_file_content, tensors_in


def written(path, tensors, digest=hashlib.blake2b):
    path.write_bytes(b"".join(tensor_file_content("shard", tensors, {"number": "3"}, digest)))
    return path


@pytest.mark.parametrize("shape", [(), (3,), (2, 5), (0, 4), (4, 0)], ids=str)
def test_tensors_come_back_as_they_were_without_a_copy(tmp_path, shape):
    generator = np.random.default_rng(0)
    tensors = {name: np.array(generator.random(shape) * 100).astype(name) for name in TENSOR_TYPES}
    path = written(tmp_path / "file", tensors)
    content = map_file(path)
    again, metadata = tensors_in("shard", path, content, hashlib.blake2b)
    assert metadata == {"number": "3"}
    assert again.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (again[name].dtype, again[name].shape, again[name].tobytes()) == (
            tensor.dtype,
            tensor.shape,
            tensor.tobytes(),
        )
        if tensor.nbytes:
            assert again[name].ctypes.data % tensor.itemsize == 0
            assert np.shares_memory(again[name], np.frombuffer(content, np.uint8))
            assert not again[name].flags.writeable


@pytest.mark.parametrize("bit", [1, 4, 32, 128])
def test_no_flipped_bit_is_believed(tmp_path, bit):
    path = written(tmp_path / "file", {"a": np.arange(6.0), "b": np.arange(5, dtype=np.uint8)})
    content = path.read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= bit
        try:
            _, metadata = tensors_in("shard", path, bytes(damaged), hashlib.blake2b)
        except DamagedFile as error:
            assert "file: is" in str(error)
        else:
            assert metadata.keys() != {"number"}  # the checksum leaves these keys to whoever wants them


@pytest.mark.parametrize("bit", [1, 32])
def test_no_flipped_bit_of_a_record_is_believed(tmp_path, bit):
    features, labels = np.arange(12.0).reshape(6, 2), np.arange(6) % 2
    dataset = dataset_of(MemorySource(features, labels, np.ones(6), {"kind": list("abcabc")}), Alone(), impute="mean")
    content, path = dataset.content("the key"), tmp_path / "record"
    assert facts_in(content, "the key", path).content("the key") == content
    with pytest.raises(DamagedFile, match="record: is the record of another dataset"):
        facts_in(content, "another key", path)
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= bit
        with pytest.raises(DamagedFile, match="record: is"):
            facts_in(bytes(damaged), "the key", path)


def test_no_truncated_file_is_believed(tmp_path):
    path = written(tmp_path / "file", {"a": np.arange(6.0), "b": np.zeros((0, 3))})
    content = path.read_bytes()
    for size in range(len(content)):
        with pytest.raises(DamagedFile, match="file: is"):
            tensors_in("shard", path, content[:size], hashlib.blake2b)


def test_what_is_no_file_of_ours_is_not_mapped(tmp_path):
    with pytest.raises(InputError, match="nowhere: cannot be read: No such file"):
        map_file(tmp_path / "nowhere")
    (tmp_path / "empty").touch()
    with pytest.raises(DamagedFile, match="empty: is empty"):
        map_file(tmp_path / "empty")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        map_file(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DamagedFile, match="pipe: is no regular file"):
        map_file(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    with pytest.raises(InputError, match="link: cannot be read"):
        map_file(tmp_path / "link")
