"""All that is counted of a source by its ranks together: the same on each, and on any number of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.exact_sum import ShardSum, exact_sum
from distsoftmax.data.class_names import class_names
from distsoftmax.data.encoding import LARGEST_NUMBER_OF_CATEGORIES
from distsoftmax.data.row_numbers import RowNumbers, columns_that_number_rows
from distsoftmax.data.shards import DividedSource, ShowProgress
from distsoftmax.inspection.tally import KindOf, NumberTally, Spot, TextTally, WeightTally


@dataclass(frozen=True)
class Census:
    """What is counted of a source.

    Attributes
    ----------
    numbers : NumberTally
    labels : TextTally or None
    weights : WeightTally or None
        None where the source was not asked for them.
    total_weight : float
        The sum of the weights that can be used; the number of rows where there are none.
    categories : tuple of TextTally
        In the order of `Source.category_names`.
    n_dropped : int
        Rows with a missing cell, where they are left out; nothing of them is counted.
    row_numbers : tuple of int
        The numeric columns that number the rows.
    """

    numbers: NumberTally
    labels: TextTally | None
    weights: WeightTally | None
    total_weight: float
    categories: tuple[TextTally, ...]
    n_dropped: int = 0
    row_numbers: tuple[int, ...] = ()


def take_census(
    divided: DividedSource,
    undeclared: Collection[str],
    kind_of: KindOf,
    cluster: Communicator,
    show: ShowProgress,
    *,
    drop_rows_missing: bool = False,
) -> Census:
    """Read this rank's shards and count what is in them. Collective.

    Parameters
    ----------
    undeclared : collection of str
        The text columns that nobody declared as categories: they may be columns of numbers that went wrong.
    kind_of : callable
        What a text of such a column reads as.
    drop_rows_missing : bool
        Whether rows with a missing cell are left out.

    Raises
    ------
    InputError
        On every rank: a shard cannot be read at all.
    """
    source = divided.source
    numbers = NumberTally(len(source.feature_names), divided.n_shards if source.sparse else 0)
    labels, weights = TextTally(), WeightTally()
    categories = tuple(TextTally() for _ in source.category_names)
    sums: list[ShardSum] = []
    n_dropped, row_numbers = 0, RowNumbers()
    with cluster.agreement():
        for number in divided.own:
            show(f"reading {source.path}", number - divided.own.start, len(divided.own))
            shard = divided.read_unchecked(number)
            if drop_rows_missing:
                shard = shard.without_missing()
                n_dropped += shard.n_dropped
            rows, row_name = shard.rows, shard.where
            row_numbers.add(shard)
            weighted = None
            if rows.weights is not None:
                weighted = rows.weights > 0
                sums.append(ShardSum(number, np.array(weights.add(rows.weights, row_name))))
            if rows.labels is not None:
                labels.add(rows.labels, row_name, weighted)
                if number == 0 and (rows.labels.codes[:1] >= 0).any():
                    text = rows.labels.texts[rows.labels.codes[0]]
                    labels.first_row = Spot(source.locate(0)[0], value=text)
            for name, tally, column in zip(source.category_names, categories, rows.categories, strict=True):
                tally.add(column, row_name)
                tally.trim(LARGEST_NUMBER_OF_CATEGORIES + 1)
                if name in undeclared:
                    tally.look_for_words(column, row_name, kind_of)
            numbers.add(number, rows, row_name, weighted)
    numbers.join(cluster)
    gathered = cluster.allgather((labels, weights, categories))
    told = cluster.allgather((n_dropped, row_numbers))
    n_dropped = sum(count for count, _ in told)
    labels, weights, categories = TextTally(), WeightTally(), tuple(TextTally() for _ in source.category_names)
    for of_labels, of_weights, of_categories in gathered:  # in the order of the rows
        labels.merge(of_labels)
        weights.merge(of_weights)
        for tally, of_column in zip(categories, of_categories, strict=True):
            tally.merge(of_column)
            tally.trim(LARGEST_NUMBER_OF_CATEGORIES + 1)
    labels.rename(class_names(labels.rows))
    has_labels = labels.rows or labels.missing
    total = exact_sum(sums, (), divided.n_shards, cluster) if weights.rows else source.n_rows - n_dropped
    return Census(
        numbers,
        labels if has_labels else None,
        weights if weights.rows else None,
        float(total),
        categories,
        n_dropped,
        tuple(columns_that_number_rows((seen for _, seen in told), source, n_dropped)),
    )
