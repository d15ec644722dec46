import dataclasses
import errno
import json
import os
from typing import get_type_hints

import numpy as np
import pytest
import safetensors.numpy
from objectives import fields_of
from ranks import on_ranks

from distsoftmax import durable
from distsoftmax.coordinator import checkpoint as checkpoint_module
from distsoftmax.coordinator.checkpoint import (
    broadcast_checkpoint,
    checkpoint_paths,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)
from distsoftmax.coordinator.metrics import MetricsFile
from distsoftmax.coordinator.run_identity import RunIdentity, refuse_other_run
from distsoftmax.errors import DamagedFile, InputError, OutputError
from distsoftmax.model import Encoding, Model, NumberedNames, load_model
from distsoftmax.solvers.accelerated_gradient import AcceleratedState
from distsoftmax.solvers.protocol import Certificate, Evaluation
from distsoftmax.solvers.state import State
from distsoftmax.tensor_file import read_tensor_file, tensor_file_content
from distsoftmax.training.early_stopping import EarlyStopping


def identity(**changes):
    facts = {
        "options": {"l2": 1e-4, "shards": None, "learning-rate": "auto"},
        "data": {"n_rows": 100, "classes": ["a", "b"], "feature_names": ["x0"]},
        "arithmetic": 1,
        "shard_digests": np.arange(4, dtype=np.int64),
    }
    return RunIdentity(**{**facts, **changes})


def state(step=12, certificate=None, width=2):
    generator = np.random.default_rng(step)
    return AcceleratedState(
        step=step,
        parameters=generator.standard_normal((2, width)),
        evaluation=Evaluation(0.1 + 0.2, generator.standard_normal((2, width)), 1 / 7, -np.inf, 0.3, 1e-17),
        lower_bound=-np.inf,
        first_value=1e300,
        first_gradient_norm=5e-324,
        step_size=1 / 3,
        exhausted=True,
        certificate=certificate,
        last_plain=generator.standard_normal((2, width)),
        momentum=2.0,
        next_size=0.7,
    )


def same(state, expected):
    values, expected_values = fields_of(state), fields_of(expected)
    return values.keys() == expected_values.keys() and all(
        np.asarray(value).tobytes() == np.asarray(expected_values[name]).tobytes()
        and type(value) is type(expected_values[name])
        for name, value in values.items()
    )


@pytest.mark.parametrize("certificate", [None, Certificate(0.3, 1e-16, -np.inf, 1 / 3, 1e-17)])
def test_a_state_comes_back_with_the_same_bits_and_types(tmp_path, certificate):
    save_checkpoint(tmp_path, state(12, certificate), identity(), keep=3)
    (path,) = checkpoint_paths(tmp_path)
    checkpoint = load_checkpoint(path)
    then = checkpoint.identity
    assert same(checkpoint.state(AcceleratedState), state(12, certificate))
    assert then.arithmetic == 1
    np.testing.assert_array_equal(then.shard_digests, identity().shard_digests)


@pytest.mark.parametrize("parameters", [None, np.ones((2, 2)) / 3])
def test_the_best_model_and_the_time_come_back_with_the_state(tmp_path, parameters):
    best = EarlyStopping(step=7, log_loss=1 / 3, parameters=parameters, last_step=10, n_worse=3)
    save_checkpoint(tmp_path, state(), identity(), keep=3, best=best, seconds=1.5)
    checkpoint = newest_checkpoint(tmp_path, pytest.fail)
    assert same(checkpoint.state(AcceleratedState), state())
    assert checkpoint.seconds == 1.5
    assert vars(checkpoint.best) | {"parameters": None} == vars(best) | {"parameters": None}
    if parameters is None:
        assert checkpoint.best.parameters is None
    else:
        assert checkpoint.best.parameters.tobytes() == parameters.tobytes()


def test_a_run_that_looks_for_no_best_model_saves_none(tmp_path):
    save_checkpoint(tmp_path, state(), identity(), keep=3)
    assert newest_checkpoint(tmp_path, pytest.fail).best is None


def test_only_the_newest_are_kept(tmp_path):
    for step in (1, 9, 10, 100, 1000):
        save_checkpoint(tmp_path, state(step), identity(), keep=2)
    assert [int(path.stem.split("-")[1]) for path in checkpoint_paths(tmp_path)] == [100, 1000]


@pytest.fixture
def unlisted(monkeypatch):
    """No folder can be listed for now, as where a file system fails over."""

    def failing(folder):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "listdir", failing)
    monkeypatch.setattr(os, "scandir", failing)


def test_a_folder_that_cannot_be_listed_is_not_one_without_checkpoints(tmp_path, unlisted):
    with pytest.raises(InputError, match=r"checkpoints: cannot be listed: Input/output error; start again when"):
        newest_checkpoint(tmp_path / "checkpoints", pytest.fail)


def test_a_save_is_good_where_older_ones_cannot_be_listed(tmp_path, unlisted, monkeypatch):
    save_checkpoint(tmp_path, state(1), identity(), keep=1)
    save_checkpoint(tmp_path, state(2), identity(), keep=1)
    monkeypatch.undo()
    assert len(checkpoint_paths(tmp_path)) == 2
    save_checkpoint(tmp_path, state(3), identity(), keep=1)
    assert len(checkpoint_paths(tmp_path)) == 1


def test_a_damaged_checkpoint_is_reported_and_passed_over(tmp_path):
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, state(step), identity(), keep=3)
    newest = checkpoint_paths(tmp_path)[-1]
    newest.write_bytes(newest.read_bytes()[:-5])
    warnings = []
    found = newest_checkpoint(tmp_path, warnings.append)
    assert found.state(AcceleratedState).step == 2
    assert found.path == checkpoint_paths(tmp_path)[1]
    assert len(warnings) == 1
    assert newest.name in warnings[0]


def test_a_save_never_removes_itself_for_damaged_files_of_later_steps(tmp_path):
    for step in (4, 5, 7):
        save_checkpoint(tmp_path, state(step), identity(), keep=3)
    for path in checkpoint_paths(tmp_path):
        path.write_bytes(path.read_bytes()[:-1])
    warnings = []
    assert newest_checkpoint(tmp_path, warnings.append) is None
    assert "starts anew" in warnings[-1]
    for step in (0, 1, 2):
        save_checkpoint(tmp_path, state(step), identity(), keep=1)
    assert newest_checkpoint(tmp_path, warnings.append).state(AcceleratedState).step == 2


def test_only_our_own_leftovers_are_removed(tmp_path):
    for name in (".notes.tmp", ".step-0000000002.safetensors.77.tmp", ".config.toml.1.tmp"):
        (tmp_path / name).touch()
    durable.remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".notes.tmp"]


@pytest.mark.parametrize("root", [0, 2])
def test_all_ranks_go_on_from_one_checkpoint_whatever_older_ones_they_have(tmp_path, root):
    for rank in (0, 2):
        (tmp_path / f"{rank}").mkdir()
        save_checkpoint(tmp_path / f"{rank}", state(9 if rank == root else 5), identity(), keep=3)

    def received(cluster):
        own = None if cluster.rank == 1 else newest_checkpoint(tmp_path / f"{cluster.rank}", pytest.fail)
        return broadcast_checkpoint(own, cluster, root).state(AcceleratedState)

    for of_rank in on_ranks(3, received):
        assert same(of_rank, state(9))


def test_no_checkpoint_is_no_error(tmp_path):
    assert newest_checkpoint(tmp_path / "none", print) is None


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_a_save_that_fails_raises_and_leaves_the_earlier_ones(tmp_path, monkeypatch, call):
    save_checkpoint(tmp_path, state(1), identity(), keep=3)

    def fail(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(durable.os, call, fail)
    with pytest.raises(OutputError, match="No space left"):
        save_checkpoint(tmp_path, state(2), identity(), keep=3)
    monkeypatch.undo()
    assert newest_checkpoint(tmp_path, print).state(AcceleratedState).step == 1
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"options": {"l2": 1e-3, "shards": None, "learning-rate": "auto"}}, "--l2 was 0.0001, now it is 0.001"),
        ({"options": {"l2": 1e-4, "shards": 7, "learning-rate": 0.1}}, "--shards was None, now it is 7; --learning"),
        ({"data": {"n_rows": 99, "classes": ["a", "b"], "feature_names": ["x0"]}}, "n rows were 100, now they are 99"),
        ({"data": {"n_rows": 100, "classes": ["a", "c"], "feature_names": ["x0"]}}, "classes were"),
        ({"shard_digests": np.array([0, 1, 7, 3])}, "content changed in 1 shards, first in rows 51 to 75"),
        ({"shard_digests": np.arange(5)}, "there were 4 shards, now there are 5"),
    ],
)
def test_another_run_is_refused_with_the_difference(tmp_path, changes, words):
    with pytest.raises(InputError, match=words):
        refuse_other_run(tmp_path, identity(), identity(**changes))


def test_the_same_run_is_not_refused(tmp_path):
    refuse_other_run(tmp_path, identity(), identity(arithmetic=2))


def test_a_checkpoint_of_another_solver_is_refused(tmp_path):
    save_checkpoint(tmp_path, state(), identity(), keep=1)
    with pytest.raises(InputError, match="another solver"):
        load_checkpoint(checkpoint_paths(tmp_path)[0]).state(State)


def renamed(name, new, record):
    """A record whose type has another name for one of its fields, as in another version of the program."""
    kinds = get_type_hints(type(record))
    items = [(new if item.name == name else item.name, kinds[item.name]) for item in dataclasses.fields(record)]
    values = [getattr(record, item.name) for item in dataclasses.fields(record)]
    kind = dataclasses.make_dataclass(type(record).__name__, items)
    return kind(*values)


@pytest.mark.parametrize(
    ("then", "words"),
    [
        (renamed("momentum", "speed", state()), "missing: momentum; unknown: speed."),
        (
            renamed("certificate", "proof", state(12, Certificate(1.0, 0.0, 0.0, 1.0, 0.0))),
            "missing: none; unknown: pro",
        ),
        (
            dataclasses.replace(state(), evaluation=renamed("value", "loss", state().evaluation)),
            "missing: evaluation.value; unknown: evaluation.loss.",
        ),
        (
            dataclasses.replace(state(), evaluation=None),
            "missing: evaluation.gradient, .*evaluation.value; unknown: none",
        ),
        (
            dataclasses.replace(state(), certificate=renamed("gap", "distance", Certificate(1.0, 0.0, 0.0, 1.0, 0.0))),
            "missing: certificate.gap; unknown: certificate.distance.",
        ),
    ],
    ids=["a field", "an optional record", "a field within", "a record", "a field within an optional record"],
)
def test_a_checkpoint_whose_fields_are_not_those_of_the_state_is_refused_by_their_names(tmp_path, then, words):
    save_checkpoint(tmp_path, then, identity(), keep=1)
    checkpoint = newest_checkpoint(tmp_path, pytest.fail)
    with pytest.raises(InputError, match=f"its fields are not those of AcceleratedState; {words}.* another --out"):
        checkpoint.state(AcceleratedState)


def test_a_best_model_whose_fields_are_others_is_refused_by_their_names(tmp_path):
    best = renamed("n_worse", "worse", EarlyStopping(step=7, last_step=10, n_worse=3))
    save_checkpoint(tmp_path, state(), identity(), keep=1, best=best)
    with pytest.raises(InputError, match="not those of EarlyStopping; missing: n_worse; unknown: worse"):
        newest_checkpoint(tmp_path, pytest.fail)


def test_a_checkpoint_of_an_earlier_layout_is_refused_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "FORMAT_VERSION", 3)
    save_checkpoint(tmp_path, state(), identity(), keep=1)
    monkeypatch.undo()
    with pytest.raises(
        InputError, match=r"has format version 3, and this program reads 4\. Resume with .* another --out"
    ):
        newest_checkpoint(tmp_path, pytest.fail)


def test_metrics_beyond_the_resumed_step_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path, 0)
    for step in range(5):
        metrics.write({"step": step, "objective": np.inf, "certified_gap": None})
    with path.open("a") as file:
        file.write('{"step": 5, "obj')  # cut short by a crash
    MetricsFile(path, 3).write({"step": 3})
    lines = path.read_text().splitlines()
    assert [line[:10] for line in lines] == [f'{{"step": {step}' for step in range(4)]
    assert '"objective": null' in lines[0]


def model():
    generator = np.random.default_rng(0)
    encoding = Encoding(
        numeric=("x", "y z"), fill=np.array([0.1, np.pi]), categories=(("colour", ("", "é=\n")),), index_base=1
    )
    return Model(generator.standard_normal((3, 4)), generator.standard_normal(3), ("a", "b,\n", "é"), encoding)


def content(model):
    return b"".join(model.file_content())


def test_the_files_are_those_of_the_safetensors_library():
    tensors = {
        "b": np.array([True, False, True]),
        "f": np.arange(6.0).reshape(2, 3).T,
        "i": np.array(-(2**62)),
        "s": np.ones((0, 3), dtype=np.float32),
        "g": np.arange(3, dtype=">f8"),
    }
    found = safetensors.numpy.load(b"".join(tensor_file_content("model", tensors, {"name": "é\n"})))
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor)
        assert found[name].dtype.name == tensor.dtype.name


def test_a_million_made_up_names_take_no_room():
    names = NumberedNames(1_000_000)
    wide = Model(np.zeros((2, 1_000_000)), np.zeros(2), ("a", "b"), Encoding(numeric=names))
    assert len(wide.file_content()[1]) < 1000
    assert names[999_999] == "x999999"
    assert names[-3:] == ("x999997", "x999998", "x999999")
    assert NumberedNames(2) == ("x0", "x1")
    assert NumberedNames(2) != ("x0", "x2")


def test_a_model_comes_back_as_it_was(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content(model()))
    loaded = load_model(path)
    assert loaded.classes == model().classes
    assert loaded.feature_names == ("x", "y z", "colour=", "colour=é=\n")
    assert (loaded.encoding.categories, loaded.encoding.index_base) == (model().encoding.categories, 1)
    assert loaded.encoding.fill.tobytes() == model().encoding.fill.tobytes()
    assert loaded.coef.tobytes() == model().coef.tobytes()
    assert loaded.coef.flags.writeable
    assert loaded.sha256 == model().sha256


def test_sha256_is_over_the_little_endian_bytes():
    import hashlib
    import struct

    values = [*model().coef.ravel(), *model().intercept]
    assert model().sha256 == hashlib.sha256(struct.pack(f"<{len(values)}d", *values)).hexdigest()


def test_every_flipped_byte_of_a_model_is_noticed_or_harmless(tmp_path):
    path, whole = tmp_path / "model.safetensors", content(model())
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            loaded = load_model(path)
        except InputError:
            continue
        assert (loaded.sha256, loaded.classes, loaded.encoding.categories) == (  # a byte of padding, or of a key
            model().sha256,
            model().classes,
            model().encoding.categories,
        )


def test_a_model_without_a_checksum_is_read(tmp_path):
    buffers = model().file_content()
    metadata = json.loads(buffers[1])
    del metadata["__metadata__"]["checksum"]
    header = json.dumps(metadata).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"".join([len(header).to_bytes(8, "little"), header, *buffers[2:]]))
    assert load_model(path).sha256 == model().sha256


@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_a_damaged_model_is_refused(tmp_path, length):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content(model())[:length])
    with pytest.raises(InputError, match="damaged"):
        load_model(path)


def test_what_is_no_file_is_called_that(tmp_path):
    with pytest.raises(DamagedFile, match="is no regular file"):
        read_tensor_file("model", tmp_path)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_tensor_file("model", tmp_path / "none")


def test_a_checkpoint_is_no_model(tmp_path):
    save_checkpoint(tmp_path, state(), identity(), keep=1)
    with pytest.raises(InputError, match="is not a model"):
        load_model(checkpoint_paths(tmp_path)[0])


def test_a_checkpoint_that_cannot_be_opened_is_not_passed_over_as_damaged(tmp_path):
    save_checkpoint(tmp_path, state(1), identity(), keep=3)
    later = tmp_path / "step-0000000002.safetensors"
    later.symlink_to(later)
    with pytest.raises(InputError, match="cannot be read: Too many levels of symbolic links") as refusal:
        newest_checkpoint(tmp_path, print)
    assert not isinstance(refusal.value, DamagedFile)
