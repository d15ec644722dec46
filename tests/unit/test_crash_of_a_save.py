"""Whatever stops a save, and whatever becomes of its bytes: the checkpoint before it, or itself, loads."""

import json
import subprocess
import sys

import killed_saves
import pytest
from test_checkpoint import identity, same, state

from distsoftmax.coordinator.checkpoint import checkpoint_paths, newest_checkpoint, save_checkpoint
from distsoftmax.solvers.accelerated_gradient import AcceleratedState

LEAST_STOPS = {"checkpoint": 30, "metrics": 40}  # before and after each system call; were they fewer, none was stopped


@pytest.mark.parametrize("scenario", sorted(killed_saves.SCENARIOS))
def test_killed_at_any_system_call_what_was_written_is_the_old_or_the_new_and_nothing_is_left(tmp_path, scenario):
    command = [sys.executable, killed_saves.__file__, scenario, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    if ended.returncode == killed_saves.NOT_PERMITTED:
        pytest.skip("ptrace is not permitted here")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert len(found) > LEAST_STOPS[scenario]
    assert found == sorted(found), "what was once there is lost"
    assert (found[0], found[-1]) == (1, 2)


@pytest.fixture
def folder(tmp_path):
    """A folder of two checkpoints, the newer of which has more than 1,000 bytes besides its header."""
    for step in (1, 2):
        save_checkpoint(tmp_path, state(step, width=20), identity(), keep=2)
    return tmp_path


def newest(folder):
    """The newest checkpoint that is whole, as it was saved, and what was said of others."""
    warnings = []
    checkpoint = newest_checkpoint(folder, warnings.append)
    found = checkpoint.state(AcceleratedState)
    assert same(found, state(found.step, width=20))
    assert checkpoint.identity.options == identity().options
    return found.step, warnings


def header_bytes(content):
    return 8 + int.from_bytes(content[:8], "little")


def test_where_a_byte_of_a_checkpoint_is_flipped_the_one_before_it_is_used_with_a_warning(folder, drawn):
    path = checkpoint_paths(folder)[-1]
    whole = path.read_bytes()
    in_header = range(header_bytes(whole))
    others = range(len(in_header), len(whole))
    assert len(others) > 1000
    positions = [*drawn(in_header, 300), *drawn(others, 150)]
    n_harmless = 0
    for position in positions:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        step, warnings = newest(folder)
        if step == 2:  # a blank that pads the header, or is between two of its words
            assert position < len(in_header)
            n_harmless += 1
        else:
            assert [path.name in warning for warning in warnings] == [True]
    assert n_harmless < 0.05 * len(positions)


def test_where_a_checkpoint_is_cut_short_the_one_before_it_is_used_with_a_warning(folder, drawn):
    path = checkpoint_paths(folder)[-1]
    whole = path.read_bytes()
    for length in {0, 1, 7, 8, 9, len(whole) - 1, *drawn(range(len(whole)), 300)}:
        path.write_bytes(whole[:length])
        step, warnings = newest(folder)
        assert step == 1
        assert [path.name in warning for warning in warnings] == [True]


def test_where_bytes_follow_a_checkpoint_the_one_before_it_is_used_with_a_warning(folder):
    path = checkpoint_paths(folder)[-1]
    path.write_bytes(path.read_bytes() + bytes(8))
    step, warnings = newest(folder)
    assert (step, len(warnings)) == (1, 1)
