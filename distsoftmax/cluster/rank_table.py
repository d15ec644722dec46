"""Who has what: a table of the ranks in which those that have the same share a line, so that a thousand need few."""

from __future__ import annotations

from collections.abc import Sequence

MOST_RUNS = 6  # of consecutive ranks that are named
MOST_NODES = 3  # that are named


def who_has_what(columns: Sequence[str], of_ranks: Sequence[Sequence[str]], nodes: Sequence[str]) -> str:
    """Return the table, indented by two spaces, with the ranks and their nodes in front. Not collective.

    Parameters
    ----------
    columns : sequence of str
        What each column shows.
    of_ranks : sequence of sequence of str, (n_ranks, n_columns)
    nodes : sequence of str, (n_ranks,)

    Examples
    --------
    >>> print(who_has_what(["numpy"], [["2.1"], ["2.1"], ["2.3"]], ["red", "red", "blue"]))
      ranks  nodes  numpy
      0-1    red    2.1
      2      blue   2.3
    """
    alike: dict[tuple[str, ...], list[int]] = {}
    for rank, values in enumerate(of_ranks):
        alike.setdefault(tuple(values), []).append(rank)
    lines = [["ranks", "nodes", *columns]]
    lines += [[numbers(ranks), names([nodes[rank] for rank in ranks]), *values] for values, ranks in alike.items()]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  " + "  ".join(map(str.ljust, line, widths)).rstrip()  # a cell of several lines would break the table
        for line in lines
    )


def ranks_in_words(ranks: Sequence[int], nodes: Sequence[str]) -> str:
    """Return ranks with their nodes, such as "ranks 2-3 (node blue)"; without where all ranks share one node.

    Parameters
    ----------
    ranks : sequence of int
        In order, at least one.
    nodes : sequence of str, (n_ranks,)
        Of all ranks.
    """
    named = f"rank{'s' * (len(ranks) > 1)} {numbers(ranks)}"
    if len(set(nodes)) == 1:
        return named
    of_ranks = {nodes[rank] for rank in ranks}
    return f"{named} (node{'s' * (len(of_ranks) > 1)} {names(list(of_ranks))})"


def numbers(ranks: Sequence[int]) -> str:
    """Return numbers in order, runs of them shortened: "0-3, 7"."""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    named = [f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs[:MOST_RUNS]]
    unnamed = len(ranks) - ranks.index(runs[MOST_RUNS][0]) if len(runs) > MOST_RUNS else 0
    return ", ".join(named) + (f" and {unnamed} more" if unnamed else "")


def names(nodes: Sequence[str]) -> str:
    """Return the names of nodes, each once and in their order."""
    distinct = sorted(set(nodes))
    unnamed = len(distinct) - MOST_NODES
    return ", ".join(distinct[:MOST_NODES]) + (f" and {unnamed} more" if unnamed > 0 else "")
