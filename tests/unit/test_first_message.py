"""What the ranks compare before anything else."""

import re
from dataclasses import replace

import pytest
from ranks import on_ranks

from distsoftmax.cluster.first_message import FirstMessage, compare_ranks, resolved_options
from distsoftmax.cluster.rank_table import numbers, who_has_what
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
    assert all(word in str(error) for word in words.split(", "))
    assert str(error).endswith("; give every rank the same options")


def test_all_ranks_that_were_given_another_option_are_named_with_their_nodes():
    messages = [asked(TrainConfig(), node="red")] * 2 + [asked(TrainConfig(data=DataConfig(seed=1)), node="blue")] * 3
    error, _ = compared(*messages)
    assert str(error).startswith("--seed is 1 on ranks 2-4 (node blue), 0 on rank 0 (node red); ")


def test_of_several_differences_the_first_is_told_with_the_ranks_that_have_it():
    others = [TrainConfig(data=DataConfig(seed=1)), TrainConfig(solver=SolverConfig(max_steps=3))]
    error, _ = compared(asked(TrainConfig()), *[asked(config) for config in [*others, *others]])
    assert str(error) == "--seed is 1 on ranks 1, 3, 0 on rank 0; give every rank the same options"


def test_what_may_differ_by_node_may():
    own = TrainConfig(data=DataConfig(data=("a",), memory="1GiB"))
    other = replace(own, data=replace(own.data, scratch="/fast"), run=RunConfig(threads=3, config="its own.toml"))
    assert compared(asked(own), asked(other)) == (None, [])


@pytest.mark.parametrize(
    ("odd", "words"),
    [(0, "rank 0 was given --help, ranks 1-2 were not"), (2, "rank 2 was given --help, rank 0 was not")],
)
def test_help_on_one_rank_alone_is_refused(odd, words):
    messages = [asked(TrainConfig())] * 3
    messages[odd] = asked(usage="usage: train", is_help=True)
    error, _ = compared(*messages)
    assert str(error).startswith(words)


@pytest.mark.parametrize("odd", [0, 2])
def test_options_that_one_rank_alone_cannot_read_are_said_with_its_complaint(odd):
    messages = [asked(TrainConfig())] * 3
    messages[odd] = asked(usage="nope.toml: cannot be read: No such file", node="blue")
    error, _ = compared(*messages)
    assert str(error).startswith(f"rank {odd} (node blue) cannot read the options, rank")
    assert "nope.toml: cannot be read: No such file" in str(error)


def test_a_usage_that_all_ranks_ask_for_is_no_difference():
    assert compared(*[asked(usage="usage: train", is_help=True)] * 3) == (None, [])


def with_build(node, **versions):
    own = asked(TrainConfig())
    return replace(own, node=node, build={**own.build, **versions})


def rows(text):
    """Return the cells of a table below a message."""
    return [re.split(r"  +", line.strip()) for line in text.splitlines() if line.startswith("  ")]


@pytest.mark.parametrize("name", ["distsoftmax", "arithmetic"])
def test_another_version_of_the_package_or_its_arithmetic_is_refused_in_a_table_of_who_has_what(name):
    old, new = with_build("red", **{name: "8"}), with_build("blue", **{name: "9"})
    error, _ = compared(old, old, new, old)
    assert isinstance(error, ClusterError)
    assert error.exit_status == 2
    assert "install one version on all nodes\n" in str(error)
    columns, *lines = rows(str(error))
    assert columns == ["ranks", "nodes", "distsoftmax", "arithmetic", "Python", "numpy", "MPI", "processor"]
    place = columns.index(name)
    assert [(*line[:2], line[place]) for line in lines] == [("0-1, 3", "red", "8"), ("2", "blue", "9")]


def test_a_thousand_ranks_of_two_builds_take_three_lines():
    builds = [f"node{rank // 16}" for rank in range(1000)]
    table = who_has_what(["numpy"], [["2.1" if rank < 700 else "2.2"] for rank in range(1000)], builds)
    assert rows(table) == [
        ["ranks", "nodes", "numpy"],
        ["0-699", "node0, node1, node10 and 41 more", "2.1"],
        ["700-999", "node43, node44, node45 and 17 more", "2.2"],
    ]
    assert max(map(len, table.splitlines())) < 80


def test_ranks_without_runs_are_named_up_to_a_limit():
    assert numbers(range(0, 40, 2)) == "0, 2, 4, 6, 8, 10 and 14 more"
    assert numbers([3]) == "3"
    assert numbers([0, 1, 2, 7, 9, 10]) == "0-2, 7, 9-10"


def test_other_versions_of_what_it_stands_on_and_other_processors_run_with_one_note():
    own = asked(TrainConfig())
    error, said = compared(own, with_build("blue", numpy="9", Python="8", processor="riscv64"))
    assert error is None
    (note,) = said
    assert note.startswith("note: the ranks run different versions of Python, numpy, which changes no bit")
    assert [line[0] for line in rows(note)] == ["ranks", "0", "1"]


def test_other_processors_alone_are_nothing_to_say():
    assert compared(asked(TrainConfig()), with_build("blue", processor="riscv64")) == (None, [])


@pytest.mark.parametrize(
    "said",
    [
        '{"node": "blue", "version": "0.0.1", "software": {"Python": "3"}, "options": ["l2"], "usage": "", "build": 1}',
        '["a list"]',
        "no JSON",
        ("0.0.1", "blue", {"numpy": "2"}, ""),
    ],
    ids=["other fields", "a list", "a text", "a tuple"],
)
@pytest.mark.parametrize("odd", [0, 1])
def test_a_build_that_says_something_else_is_named_and_refused(odd, said):
    """An earlier build sends other records; both must end, and by an error of ours."""

    def work(cluster):
        if cluster.rank == odd:
            cluster.broadcast(said)
            return cluster.allgather(said)
        return compare_ranks(cluster, asked(TrainConfig()))

    outcomes = on_ranks(3, work)
    for rank in {0, 1, 2} - {odd}:
        assert isinstance(outcomes[rank], ClusterError), outcomes[rank]
        (line,) = [line for line in rows(str(outcomes[rank])) if line[0] == str(odd)]
        assert line[2:] == ["unknown"] * 6


@pytest.mark.parametrize(
    ("library", "words"),
    [
        ("MPICH Version:      5.0.1, mpi4py 4.1.0", "MPICH Version: 5.0.1, mpi4py 4.1.0"),
        (
            "Open MPI v5.0.11, package: Open MPI a@b Distribution, ident: 5, repo rev: v5, Aug 2025, mpi4py 4.1.0",
            "Open MPI v5.0.11, mpi4py 4.1.0",
        ),
        ("", "none"),
    ],
)
def test_an_mpi_library_is_told_by_its_version(library, words):
    cluster = on_ranks(1, lambda cluster: cluster)[0]
    cluster.library = library
    assert FirstMessage.of(cluster, {}).build["MPI"] == words
