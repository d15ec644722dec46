"""What a source holds and what a run on it would need, found by all ranks together; `table` shows it to people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.config import DataConfig, Format, parse_memory
from distsoftmax.data.encoding import LARGEST_NUMBER_OF_CATEGORIES
from distsoftmax.data.preparation import compute_dtype
from distsoftmax.data.shards import DividedSource, ShowProgress, divide_source, show_nothing
from distsoftmax.data.source import Source, SourceSpec
from distsoftmax.errors import InputError
from distsoftmax.inspection.census import Census, take_census
from distsoftmax.inspection.diagnosis import Diagnosis, Problem
from distsoftmax.inspection.memory_need import MemoryNeed, ShardBytes, memory_needs
from distsoftmax.inspection.suggestion import suggest
from distsoftmax.inspection.tally import BadNumbers, KindOf
from distsoftmax.model import Encoding

COLUMNS_SHOWN = 10  # those with the most bad cells


@dataclass(frozen=True)
class Cells:
    """Cells of a kind: how many, in how many columns, and the columns with the most."""

    cells: int
    columns: int
    worst: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Categories:
    """A text column: its distinct texts, whether there are more than were counted, and its cells without text."""

    column: str
    texts: int
    more: bool
    missing: int
    declared: bool


@dataclass(frozen=True)
class Weights:
    """Sample weights; the total is of those that can be used."""

    total: float
    zero: int
    negative: int
    not_finite: int


@dataclass(frozen=True, kw_only=True)
class Description:
    """What is shown of a source; the fields of the JSON object.

    Attributes
    ----------
    files, bytes : int
        The parts, and their size on disk.
    features : int
        Those a run would have: the numeric columns, and one for each category.
    nonzero : int
        Values that are not 0, categories left out.
    stored, computed : str
        The type of the values in the files, and the one a run would compute in.
    classes : dict of str to int, or None
        The samples of each class, the largest first.
    shard_rows : tuple of int
        The rows of the smallest and the largest shard.
    memory_bound, least_memory : int
        What --memory is, where it is given, and the least that it may be; in bytes.
    suggestion : str or None
        A command line that trains on the source; None where no options make that possible.
    notes : tuple of str
        What the reader says of this reading, which may depend on the number of ranks; shown apart.
    """

    path: str
    format: Format
    files: int
    bytes: int
    rows: int
    numeric: int
    categories: tuple[Categories, ...]
    features: int
    sparse: bool
    nonzero: int
    stored: str
    computed: str
    index_base: int | None
    classes: dict[str, int] | None
    missing: Cells
    infinite: Cells
    constant: int
    weights: Weights | None
    shards: int
    shard_rows: tuple[int, int]
    memory: tuple[MemoryNeed, ...]
    memory_bound: int | None
    least_memory: int
    problems: tuple[Problem, ...]
    suggestion: str | None
    notes: tuple[str, ...]

    @property
    def stops_training(self) -> bool:
        """Whether training would refuse the source."""
        return any(problem.severity == "error" for problem in self.problems)


def describe(
    config: DataConfig, ranks: int | None, cluster: Communicator, show: ShowProgress = show_nothing
) -> Description:
    """Read a source once and say what is in it. Collective.

    Parameters
    ----------
    config : DataConfig
    ranks : int or None
        The number of ranks of a run; None for 1, 2, 4, ...

    Raises
    ------
    InputError
        On every rank: the source cannot be read at all.

    Examples
    --------
    >>> from distsoftmax.cluster.communicator import Alone
    >>> np.savez("animals.npz", X=[[1.0, np.nan], [2.0, 5.0]], y=["cat", "dog"])
    >>> description = describe(DataConfig(data=("animals.npz",)), None, Alone())
    >>> description.classes
    {'cat': 1, 'dog': 1}
    >>> description.problems[0].text
    'animals.npz: row 1, column x1: there is no number ...'
    """
    bound = parse_memory(config.memory) if config.memory is not None else None
    divided, no_labels = _open(config, cluster)
    source = divided.source
    undeclared = () if config.one_hot else source.category_names
    census = take_census(
        divided, undeclared, _kinds_of_text(config, source), cluster, show, drop_rows_missing=config.drop_rows_missing
    )
    stored = np.result_type(*census.numbers.stored)
    computed = compute_dtype(
        config, source.is_text, census.numbers.stored, float(census.numbers.extremes.max(initial=0.0))
    )
    texts = (tuple(tally.rows) for tally in census.categories)
    encoding = Encoding(numeric=source.feature_names, categories=tuple(zip(source.category_names, texts, strict=True)))
    width, rows = len(encoding.feature_names), np.diff(divided.bounds)
    if source.sparse:
        sizes = ShardBytes.of_sparse(census.numbers.sparse_bytes, stored, computed)
    else:
        sizes = ShardBytes.of_dense(rows, encoding, stored, computed)
    needs = memory_needs(
        [2**power for power in range(divided.n_shards.bit_length())] if ranks is None else [ranks],
        divided.bounds,
        sizes,
        weighted=census.weights is not None,
        n_parameters=None if census.labels is None else len(census.labels.rows) * (width + 1),
        bound=bound,
    )
    diagnosis = Diagnosis(config, source, census, sizes=sizes, needs=needs, bound=bound, no_labels=no_labels)
    numbers, labels, weights = census.numbers, census.labels, census.weights
    return Description(
        path=source.path,
        format=source.format,
        files=len(source.parts),
        bytes=sum(part.size for part in source.parts),
        rows=source.n_rows,
        numeric=len(source.feature_names),
        categories=tuple(_categories(source, census, declared=not undeclared)),
        features=width,
        sparse=source.sparse or encoding.is_sparse,
        nonzero=numbers.nonzero,
        stored="text" if source.is_text else stored.name,
        computed=computed.name,
        index_base=source.index_base,
        classes=None if labels is None else dict(sorted(labels.rows.items(), key=lambda item: (-item[1], item[0]))),
        missing=_cells(numbers.missing, source, [tally.missing for tally in census.categories]),
        infinite=_cells(numbers.infinite, source),
        constant=numbers.constant_columns(config.impute == "zero").size,
        weights=None
        if weights is None
        else Weights(census.total_weight, weights.zero, weights.negative, weights.not_finite),
        shards=divided.n_shards,
        shard_rows=(int(rows.min()), int(rows.max())),
        memory=needs,
        memory_bound=bound,
        least_memory=sizes.least_bound,
        problems=diagnosis.problems(),
        suggestion=suggest(diagnosis, width, divided.n_shards, ranks),
        notes=source.notes,
    )


def as_json(description: Description) -> str:
    """Return one JSON object."""
    content = asdict(description)
    del content["notes"]
    return json.dumps(content, allow_nan=False)


def _open(config: DataConfig, cluster: Communicator) -> tuple[DividedSource, str | None]:
    """Open the source, without labels where none are named and it has none of its own; tell why. Collective."""
    spec = replace(SourceSpec.of(config), rows_may_lack_labels=True)  # they are counted
    if not spec.one_hot:
        spec = replace(spec, one_hot=("auto",))  # text columns are to be seen, not to be in the way
    try:
        return divide_source(spec, config.shards, cluster), None
    except InputError as error:
        if config.label is not None or config.labels or not error.agreed:
            raise
        return divide_source(replace(spec, needs_labels=False), config.shards, cluster), str(error)


def _kinds_of_text(config: DataConfig, source: Source) -> KindOf:
    if not source.is_text:
        return lambda text: "word"
    from distsoftmax.data.readers.csv.head import is_number, null_texts

    nothing = null_texts(SourceSpec.of(config))

    def kind_of(text: str) -> Literal["number", "word", "nothing"]:
        if text in nothing:
            return "nothing"
        return "number" if is_number(text, config.decimal) else "word"

    return kind_of


def _categories(source: Source, census: Census, *, declared: bool) -> Iterator[Categories]:
    most = LARGEST_NUMBER_OF_CATEGORIES
    for name, tally in zip(source.category_names, census.categories, strict=True):
        yield Categories(name, min(len(tally.rows), most), len(tally.rows) > most, tally.missing, declared)


def _cells(numbers: BadNumbers, source: Source, texts: Sequence[int] = ()) -> Cells:
    """Return cells by column: those of numeric columns, and of so many in each text column."""
    named = [(name, count) for name, count in zip(source.category_names, texts, strict=False) if count]
    cells, columns = sum(count for _, count in named), len(named)
    if (by_column := numbers.by_column) is not None:
        affected = np.flatnonzero(by_column)
        worst = affected[np.argsort(-by_column[affected], kind="stable")[:COLUMNS_SHOWN]].tolist()
        named = [*((source.feature_names[column], int(by_column[column])) for column in worst), *named]
        cells, columns = cells + numbers.count, columns + numbers.n_columns
    return Cells(cells, columns, tuple(sorted(named, key=lambda pair: -pair[1])[:COLUMNS_SHOWN]))
