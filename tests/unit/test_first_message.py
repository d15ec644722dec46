"""What the ranks compare before anything else."""

from dataclasses import replace

import pytest
from ranks import on_ranks

from distsoftmax.cluster.first_message import FirstMessage, compare_ranks, resolved_options
from distsoftmax.config import DataConfig, RunConfig, ScoringConfig, SolverConfig, TrainConfig
from distsoftmax.errors import ClusterError, InputError


def compared(*messages):
    """Compare what each rank says, and return the one error or None that all ranks raise, and what rank 0 has said."""
    said = []

    def work(cluster):
        cluster.say = lambda text, to_stderr: said.append((cluster.rank, text))
        compare_ranks(cluster, messages[cluster.rank])

    outcomes = on_ranks(len(messages), work)
    assert len({(type(outcome), str(outcome)) for outcome in outcomes}) == 1, outcomes
    return outcomes[0], [text for rank, text in said if rank == 0]


def asked(config=None, **others):
    options = None if config is None else resolved_options(config)
    message = FirstMessage.of(on_ranks(1, lambda cluster: cluster)[0], options)
    return replace(message, **others)


def test_equal_options_are_no_error():
    assert compared(*[asked(TrainConfig())] * 3) == (None, [])


@pytest.mark.parametrize(
    ("first", "other", "words"),
    [
        (TrainConfig(), TrainConfig(data=DataConfig(seed=1)), "--seed is 1 on rank 2, 0 on rank 0"),
        (
            TrainConfig(),
            TrainConfig(data=DataConfig(valid_fraction=0.5)),
            "--valid-fraction is 0.5 on rank 2, not given on rank 0",
        ),
        (
            TrainConfig(solver=SolverConfig(max_steps=4)),
            TrainConfig(),
            "--max-steps is not given on rank 2, 4 on rank 0",
        ),
        (
            TrainConfig(data=DataConfig(data=("a", "b"))),
            TrainConfig(data=DataConfig(data=("a",))),
            "--data is a on rank 2, a b on rank 0",
        ),
        (
            TrainConfig(),
            ScoringConfig(model="m", data=("d",)),
            "the command is ScoringConfig on rank 2, TrainConfig on rank 0",
        ),
    ],
    ids=str,
)
def test_another_option_on_one_rank_is_one_error_on_all(first, other, words):
    error, _ = compared(asked(first), asked(first), asked(other))
    assert isinstance(error, InputError)
    assert words in str(error)
    assert str(error).endswith("; give every rank the same options")


def test_what_may_differ_by_node_may():
    own = TrainConfig(data=DataConfig(data=("a",), memory="1GiB"))
    other = replace(own, data=replace(own.data, scratch="/fast"), run=RunConfig(threads=3, config="its own.toml"))
    assert compared(asked(own), asked(other)) == (None, [])


@pytest.mark.parametrize("odd", [0, 2])
def test_help_on_one_rank_alone_is_refused(odd):
    messages = [asked(TrainConfig())] * 3
    messages[odd] = asked(usage="usage: train", is_help=True)
    error, _ = compared(*messages)
    assert str(error).startswith(f"rank {odd} was given --help, rank ")


@pytest.mark.parametrize("odd", [0, 2])
def test_options_that_one_rank_alone_cannot_read_are_said_with_its_complaint(odd):
    messages = [asked(TrainConfig())] * 3
    messages[odd] = asked(usage="Unrecognized options: --max-step")
    error, _ = compared(*messages)
    assert str(error).startswith(f"rank {odd} cannot read its options, rank ")
    assert str(error).endswith("Unrecognized options: --max-step")


def test_a_usage_that_all_ranks_ask_for_is_no_difference():
    assert compared(*[asked(usage="usage: train", is_help=True)] * 3) == (None, [])


def test_another_version_of_the_package_is_refused_with_who_has_what():
    messages = [asked(TrainConfig(), version=version, node=node) for version, node in ["1a", "1a", "2b"]]
    error, _ = compared(*messages)
    assert isinstance(error, ClusterError)
    assert "1 on ranks 0, 1 (node a), 2 on rank 2 (node b)" in str(error)


def test_another_version_of_what_it_stands_on_is_a_note():
    own = asked(TrainConfig())
    error, said = compared(own, replace(own, software={**own.software, "numpy": "9"}))
    assert error is None
    (note,) = said
    assert note.startswith("note: the ranks run different versions of numpy: ")
    assert "9 on rank 1" in note
