"""The first reading of a source: what all ranks must agree on before a shard can be made ready for training."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.columns import sum_weights
from distsoftmax.arithmetic.randomness import Purpose, permutation
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.exact_sum import ShardSum, exact_sum
from distsoftmax.config import DataConfig
from distsoftmax.data.encoding import ColumnMeans, fit_encoding, measure_columns
from distsoftmax.data.labels import class_codes, find_classes
from distsoftmax.data.residency import ShardStore
from distsoftmax.data.shards import LARGEST_WEIGHT, DividedSource, RawShard, ShowProgress
from distsoftmax.data.source import TextColumn
from distsoftmax.errors import InputError
from distsoftmax.model import Encoding


@dataclass(frozen=True)
class ShardFacts:
    """What is kept of a shard besides its features, a few bytes a row.

    Attributes
    ----------
    classes : ndarray of intp, (rows,)
    sample_weights : ndarray of float64, (rows,), or None
        As read, but for a power of two that brings the largest near 1.
    held_out : ndarray of bool, (rows,)
    """

    classes: NDArray[np.intp]
    sample_weights: NDArray[np.float64] | None
    held_out: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What the first reading has found; all but `facts` is equal on every rank.

    Attributes
    ----------
    facts : mapping of shard to ShardFacts
        For this rank's shards.
    counts : ndarray of int64, (n_classes,)
        Training samples of each class.
    class_weights : ndarray of float64, (n_classes,), or None
    total_weight : float
        Of the training samples, sample weight times class weight.
    sample_weight : float
        Of the training samples, class weights left out.
    """

    classes: tuple[str, ...]
    facts: Mapping[int, ShardFacts]
    counts: NDArray[np.int64]
    class_weights: NDArray[np.float64] | None
    total_weight: float
    sample_weight: float
    encoding: Encoding
    dtype: np.dtype
    shard_digests: NDArray[np.int64]


def take_survey(store: ShardStore, config: DataConfig, cluster: Communicator, show: ShowProgress) -> Survey:
    """Read this rank's shards for the first time. Collective.

    Raises
    ------
    InputError
        On every rank, the same: what is wrong with the data, and where.
    """
    divided = store.divided
    source, path = divided.source, divided.source.path
    labels: dict[int, TextColumn] = {}
    weights: dict[int, NDArray[np.float64] | None] = {}
    held_out: dict[int, NDArray[np.bool_]] = {}
    categories: list[set[str]] = [set() for _ in source.category_names]
    means: list[ColumnMeans] = []
    digests = np.zeros(divided.n_shards, dtype=np.int64)
    stored: set[str] = set()
    with cluster.agreement():
        for shard in store.first_read(show):
            number, rows = shard.number, shard.rows
            assert rows.labels is not None
            labels[number], weights[number] = rows.labels, rows.weights
            held_out[number] = held_out_rows(config, shard, divided)
            for texts, column in zip(categories, rows.categories, strict=True):
                training = np.unique(column.codes[~held_out[number]])
                texts.update(column.texts[code] for code in training if code >= 0)
            if config.impute == "mean" and not source.sparse:
                means.append(measure_columns(number, rows, ~held_out[number]))
            digests[number] = shard_digest(shard)
            stored.add(rows.features.dtype.name)
    cluster.sum_integers(digests)
    classes = find_classes(labels.values(), cluster)
    if len(classes) < 2:
        raise one_class(path, classes[0]).on_all_ranks()
    weights = _near_one(weights, cluster)
    codes = {number: class_codes(divided, number, column, classes) for number, column in labels.items()}
    facts = {number: ShardFacts(code, weights[number], held_out[number]) for number, code in codes.items()}
    if source.headless_by_guess:
        _refuse_header_among_rows(divided, classes, codes, cluster)
    counts = _count(facts, len(classes), cluster)
    _check_counts(config, path, classes, counts, divided)
    by_class = _weights_by_class(facts, len(classes), divided, counts, cluster)
    for name in np.flatnonzero(by_class <= 0)[:1]:
        raise weightless_class(path, classes[name]).on_all_ranks()
    class_weights = None
    if config.class_weight is not None:
        with cluster.agreement():
            class_weights = _class_weights(config.class_weight, classes, by_class)
            class_weights = np.ldexp(class_weights, -math.frexp(class_weights.max())[1])
    encoding = fit_encoding(source, config.impute, categories, means, divided.n_shards, cluster)
    return Survey(
        classes=classes,
        facts=facts,
        counts=counts,
        class_weights=class_weights,
        total_weight=math.fsum(by_class if class_weights is None else by_class * class_weights),
        sample_weight=math.fsum(by_class),
        encoding=encoding,
        dtype=compute_dtype(config, source.is_text, np.result_type(*set().union(*cluster.allgather(stored))).name),
        shard_digests=digests,
    )


def one_class(path: str, name: str) -> InputError:
    """Return the error for samples of one class alone."""
    return InputError(f"{path}: all samples are of one class, {name!r}; two are needed")


def weightless_class(path: str, name: str) -> InputError:
    """Return the error for a class whose samples do not count."""
    return InputError(f"{path}: all samples of class {name!r} have weight 0; leave it out")


def held_out_rows(config: DataConfig, shard: RawShard, divided: DividedSource) -> NDArray[np.bool_]:
    """Return which rows of a shard are held out: it follows from (seed, shard, row) alone."""
    rows = shard.rows.features.shape[0]
    fraction = config.held_out_fraction
    count = int(divided.bounds[shard.number + 1] * fraction) - int(divided.bounds[shard.number] * fraction)
    held = np.zeros(rows, dtype=bool)
    if not count:
        return held
    held[permutation(Purpose.HOLD_OUT, config.seed, shard.number, 0, rows)[:count]] = True
    return held


def shard_digest(shard: RawShard) -> int:
    """Return a digest of all that a shard holds; a changed source shows here."""
    rows = shard.rows
    digest = hashlib.blake2b(digest_size=8)
    features = rows.features
    if isinstance(features, np.ndarray):
        arrays = [features]
    else:
        arrays = [features.data, features.indices.astype("<i8"), features.indptr.astype("<i8")]
    for array in arrays:
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    if rows.weights is not None:
        digest.update(rows.weights.astype("<f8").tobytes())
    for column in (rows.labels, *rows.categories):
        assert column is not None
        order = np.argsort(np.array(column.texts, dtype=object)) if column.texts else np.zeros(0, dtype=np.intp)
        rank = np.full(order.size + 1, -1, dtype="<i8")  # the last for a missing cell
        rank[order] = np.arange(order.size)
        digest.update(json.dumps(sorted(column.texts)).encode())
        digest.update(rank[column.codes].tobytes())
    return int.from_bytes(digest.digest(), "little", signed=True)


def _refuse_header_among_rows(
    divided: DividedSource, classes: tuple[str, ...], codes: Mapping[int, NDArray[np.intp]], cluster: Communicator
) -> None:
    """Suspect the first line of a CSV file that was taken for a row: a header of numbers looks like one. Collective."""
    counts = np.zeros(len(classes), dtype=np.int64)
    for code in codes.values():
        counts += np.bincount(code, minlength=len(classes))
    cluster.sum_integers(counts)
    with cluster.agreement():
        first = codes.get(0)
        if first is not None and first.size and counts[first[0]] == 1:
            raise InputError(
                f"{divided.source.locate(0)[0]}: the first line was taken for a row, but its label "
                f"{classes[first[0]]!r} stands in no other row; say --header yes if it holds the columns' names, or "
                "--header no"
            )


def _near_one(
    weights: dict[int, NDArray[np.float64] | None], cluster: Communicator
) -> dict[int, NDArray[np.float64] | None]:
    """Divide all weights by a power of two, so that the largest is near 1 in any type. Collective.

    That changes neither the mean over the samples nor a bit of it.
    """
    own = max((float(some.max()) for some in weights.values() if some is not None and some.size), default=0.0)
    largest = max(cluster.allgather(own))
    exponent = math.frexp(largest)[1]
    return {number: None if some is None else np.ldexp(some, -exponent) for number, some in weights.items()}


def _count(facts: Mapping[int, ShardFacts], n_classes: int, cluster: Communicator) -> NDArray[np.int64]:
    counts = np.zeros(n_classes, dtype=np.int64)
    for some in facts.values():
        counts += np.bincount(some.classes[~some.held_out], minlength=n_classes)
    cluster.sum_integers(counts)
    return counts


def _weights_by_class(
    facts: Mapping[int, ShardFacts],
    n_classes: int,
    divided: DividedSource,
    counts: NDArray[np.int64],
    cluster: Communicator,
) -> NDArray[np.float64]:
    """Return the sum of the training samples' weights by class. Collective."""
    if not any(cluster.allgather(any(some.sample_weights is not None for some in facts.values()))):
        return counts.astype(np.float64)
    partials = []
    for number, some in facts.items():
        assert some.sample_weights is not None
        training = ~some.held_out
        sums = sum_weights(some.classes[training], n_classes, some.sample_weights[training])
        partials.append(ShardSum(number, sums))
    return exact_sum(partials, (n_classes,), divided.n_shards, cluster)


def _class_weights(word: str, classes: tuple[str, ...], by_class: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each class's weight: as a JSON file says, or what makes all classes weigh the same in sum."""
    if word == "balanced":
        balanced: NDArray[np.float64] = math.fsum(by_class) / (len(classes) * by_class)
        return balanced
    try:
        table = json.loads(Path(word).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--class-weight {word}: cannot be read: {error.strerror}; name a file or balanced") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f'--class-weight {word}: is not JSON such as {{"cat": 1, "dog": 2.5}}: {error}') from None
    if not isinstance(table, dict):
        raise InputError(f'--class-weight {word}: expected one JSON object, such as {{"cat": 1, "dog": 2.5}}')
    for name in classes:
        value = table.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= LARGEST_WEIGHT:
            raise InputError(
                f"--class-weight {word}: class {name!r} has the weight {str(value)[:40]}; give each class a number "
                f"above 0, {LARGEST_WEIGHT:g} at most"
            )
    for name in table:
        if name not in classes:
            raise InputError(f"--class-weight {word}: there is no class {name!r}; the classes are {', '.join(classes)}")
    return np.array([float(table[name]) for name in classes])


def compute_dtype(config: DataConfig, is_text: bool, stored: str) -> np.dtype:
    """Return the type to compute in: as stored where that is float32 or float64, else float32."""
    if config.dtype != "stored":
        return np.dtype(config.dtype)
    return np.dtype(stored if stored in ("float32", "float64") and not is_text else np.float32)


def _check_counts(
    config: DataConfig, path: str, classes: tuple[str, ...], counts: NDArray[np.int64], divided: DividedSource
) -> None:
    """Refuse data from which nothing can be learnt. Every rank knows the same, and raises the same."""
    fraction = config.held_out_fraction
    if fraction and counts.sum(dtype=np.int64) == divided.source.n_rows:
        raise InputError(
            f"--valid-fraction {fraction} of {divided.source.n_rows} samples holds none of them out; raise it"
        ).on_all_ranks()
    for name, count in zip(classes, counts, strict=True):
        if count == 0:
            raise InputError(
                f"{path}: class {name!r} is in the held-out samples but never seen in training; lower --valid-fraction "
                "or take another --seed"
            ).on_all_ranks()
