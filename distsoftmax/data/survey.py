"""What all ranks must agree on before a shard can be made ready for training, found while the shards are read."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.columns import sum_weights
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.exact_sum import ShardSum, exact_sum
from distsoftmax.config import DataConfig
from distsoftmax.data.class_names import are_numbers, find_classes, number_name
from distsoftmax.data.encoding import fit_encoding
from distsoftmax.data.first_look import FirstLook, Labelled
from distsoftmax.data.preparation import Preparation, compute_dtype
from distsoftmax.data.readers.column_names import first_double
from distsoftmax.data.row_numbers import columns_that_number_rows
from distsoftmax.data.shards import LARGEST_WEIGHT, DividedSource, RawShard
from distsoftmax.data.standardization import Standardization
from distsoftmax.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What the reading has shown; equal on every rank.

    Attributes
    ----------
    preparation : Preparation
        Complete but for the standardization.
    n_training, n_dropped : int
        The training samples, and the rows left out for a missing cell.
    row_numbers : tuple of int
        The columns that number the rows.
    total_weight : float
        Of the training samples, sample weight times class weight.
    sample_weight : float
        Of the training samples, class weights left out.
    unit_exponent : int
        See `Facts.unit_exponent`.
    shard_digests : ndarray of int64, (n_shards,)
    """

    preparation: Preparation
    n_training: int
    n_dropped: int
    row_numbers: tuple[int, ...]
    total_weight: float
    sample_weight: float
    unit_exponent: int
    shard_digests: NDArray[np.int64]


def take_survey(
    shards: Iterable[RawShard], divided: DividedSource, config: DataConfig, cluster: Communicator
) -> Survey:
    """Look at this rank's shards while they are read. Collective.

    Parameters
    ----------
    shards : iterable of RawShard
        This rank's, in order; gone through once.

    Raises
    ------
    InputError
        On every rank, the same: what is wrong with the data, and where.
    """
    source, path = divided.source, divided.source.path
    look = FirstLook(source, config)
    digests = np.zeros(divided.n_shards, dtype=np.int64)
    with cluster.agreement():
        for shard in shards:
            look.add(shard)
            digests[shard.number] = shard_digest(shard) if source.is_digested else 0
    cluster.sum_integers(digests)
    told = cluster.allgather((look.stored, look.largest, look.n_dropped, look.row_numbers))
    stored, largest, dropped, row_numbers = zip(*told, strict=True)
    n_dropped = sum(dropped)
    if n_dropped == source.n_rows:
        raise no_complete_row(path).on_all_ranks()
    looked_at = look.labelled
    classes = find_classes([labelled.shard.rows.labels for labelled in looked_at], cluster)
    if len(classes) < 2:
        raise one_class(path, classes[0]).on_all_ranks()
    codes = [labelled.shard.class_codes(classes) for labelled in looked_at]
    if source.headless_by_guess:
        _refuse_header_among_rows(divided, classes, codes, looked_at, cluster)
    counts = np.zeros(len(classes), dtype=np.int64)
    for of_shard, labelled in zip(codes, looked_at, strict=True):
        counts += np.bincount(of_shard[~labelled.held_out], minlength=len(classes))
    cluster.sum_integers(counts)
    _check_counts(config, path, classes, counts, source.n_rows - n_dropped)
    exponent = _weight_exponent([labelled.shard.rows.weights for labelled in looked_at], cluster)
    by_class = counts.astype(np.float64)
    if exponent is not None:
        by_class = _weights_by_class(looked_at, codes, len(classes), exponent, divided.n_shards, cluster)
    for number in np.flatnonzero(by_class <= 0)[:1]:
        raise weightless_class(path, classes[number]).on_all_ranks()
    class_weights, class_exponent = None, 0
    if config.class_weight is not None:
        with cluster.agreement():
            class_weights, class_exponent = _class_weights(config.class_weight, classes, by_class)
    encoding = fit_encoding(source, config.impute, look.categories, look.means, divided.n_shards, cluster)
    encoding = replace(encoding, missing=config.missing, drop_rows_missing=config.drop_rows_missing)
    preparation = Preparation(
        encoding=encoding,
        standardization=Standardization.of_features_as_they_are(len(encoding.feature_names)),
        dtype=compute_dtype(config, source.is_text, set().union(*stored), max(largest)),
        classes=classes,
        class_weights=class_weights,
        weight_exponent=exponent or 0,
        held_out_fraction=config.held_out_fraction,
        seed=config.seed,
    )
    return Survey(
        preparation=preparation,
        n_training=int(counts.sum(dtype=np.int64)),
        n_dropped=n_dropped,
        row_numbers=tuple(columns_that_number_rows(row_numbers, source, n_dropped)),
        total_weight=math.fsum(by_class if class_weights is None else by_class * class_weights),
        sample_weight=math.fsum(by_class),
        unit_exponent=(exponent or 0) + class_exponent,
        shard_digests=digests,
    )


def one_class(path: str, name: str) -> InputError:
    """Return the error for samples of one class alone."""
    return InputError(f"{path}: all samples are of one class, {name!r}; two are needed")


def no_complete_row(path: str) -> InputError:
    """Return the error for samples of which --drop-rows-missing leaves none."""
    return InputError(
        f"{path}: every row has a missing cell, so that --drop-rows-missing leaves none; leave the columns with many "
        "of them out by --drop, or fill them by --impute"
    )


def weightless_class(path: str, name: str) -> InputError:
    """Return the error for a class whose samples do not count."""
    return InputError(f"{path}: all samples of class {name!r} have weight 0; leave it out")


def shard_digest(shard: RawShard) -> int:
    """Return a digest of all that a shard holds; a changed source shows here."""
    rows = shard.rows
    digest = hashlib.blake2b(digest_size=8)
    features = rows.features
    if isinstance(features, np.ndarray):
        arrays = [features]
    else:
        arrays = [features.data, features.indices.astype("<i8"), features.indptr.astype("<i8")]
    if shard.complete is not None:
        arrays.append(np.packbits(shard.complete))
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
    divided: DividedSource,
    classes: tuple[str, ...],
    codes: Sequence[NDArray[np.intp]],
    looked_at: Sequence[Labelled],
    cluster: Communicator,
) -> None:
    """Suspect the first line of a CSV file that was taken for a row: a header of numbers looks like one. Collective."""
    counts = np.zeros(len(classes), dtype=np.int64)
    for of_shard in codes:
        counts += np.bincount(of_shard, minlength=len(classes))
    cluster.sum_integers(counts)
    with cluster.agreement():
        if 0 not in divided.own or ((complete := looked_at[0].shard.complete) is not None and not complete[0]):
            return
        if codes[0].size and counts[codes[0][0]] == 1:
            raise InputError(
                f"{divided.source.locate(0)[0]}: the first line was taken for a row, but its label "
                f"{classes[codes[0][0]]!r} stands in no other row; say --header yes if it holds the columns' names, or "
                "--header no"
            )


def _weight_exponent(weights: Iterable[NDArray[np.float64] | None], cluster: Communicator) -> int | None:
    """Return the power of two that is next above the largest weight; None where there are no weights. Collective."""
    own = max((float(of_shard.max()) for of_shard in weights if of_shard is not None and of_shard.size), default=None)
    largest = [weight for weight in cluster.allgather(own) if weight is not None]
    return math.frexp(max(largest))[1] if largest else None


def _weights_by_class(
    looked_at: Sequence[Labelled],
    codes: Sequence[NDArray[np.intp]],
    n_classes: int,
    exponent: int,
    n_shards: int,
    cluster: Communicator,
) -> NDArray[np.float64]:
    """Return the sum of the training samples' weights by class. Collective."""
    partials = []
    for labelled, of_shard in zip(looked_at, codes, strict=True):
        assert labelled.shard.rows.weights is not None
        training = ~labelled.held_out
        weights = np.ldexp(labelled.shard.rows.weights[training], -exponent)
        partials.append(ShardSum(labelled.shard.number, sum_weights(of_shard[training], n_classes, weights)))
    return exact_sum(partials, (n_classes,), n_shards, cluster)


def _class_weights(
    word: str, classes: tuple[str, ...], by_class: NDArray[np.float64]
) -> tuple[NDArray[np.float64], int]:
    """Return each class's weight, divided by a power of two that brings the largest near 1, and that power."""
    weights = _weights_as_said(word, classes, by_class)
    exponent = math.frexp(weights.max())[1]
    return np.ldexp(weights, -exponent), exponent


def _weights_as_said(word: str, classes: tuple[str, ...], by_class: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each class's weight: as a JSON object or a file of it says, or by which all classes weigh the same."""
    if word == "balanced":
        balanced: NDArray[np.float64] = math.fsum(by_class) / (len(classes) * by_class)
        return balanced
    try:
        text = word if word.startswith("{") else Path(word).read_text(encoding="utf-8")
        table = json.loads(text, object_pairs_hook=_each_once)
    except OSError as error:
        raise InputError(f"--class-weight {word}: cannot be read: {error.strerror}; name a file or balanced") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f'--class-weight {word}: is not JSON such as {{"cat": 1, "dog": 2.5}}: {error}') from None
    if not isinstance(table, dict):
        raise InputError(f'--class-weight {word}: expected one JSON object, such as {{"cat": 1, "dog": 2.5}}')
    if are_numbers(classes):
        table = {number_name(name) or name: weight for name, weight in table.items()}
    for name in classes:
        value = table.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= LARGEST_WEIGHT:
            given = f"the weight {str(value)[:40]}" if name in table else "no weight"
            raise InputError(
                f"--class-weight {word}: class {name!r} has {given}; give each class a number above 0, "
                f"{LARGEST_WEIGHT:g} at most"
            )
    for name in table:
        if name not in classes:
            raise InputError(f"--class-weight {word}: there is no class {name!r}; the classes are {', '.join(classes)}")
    return np.array([float(table[name]) for name in classes])


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return an object of JSON, in which each name must stand once."""
    double = first_double(name for name, _ in pairs)
    if double is not None:
        raise ValueError(f"{double!r} stands there more than once")
    return dict(pairs)


def _check_counts(
    config: DataConfig, path: str, classes: tuple[str, ...], counts: NDArray[np.int64], n_samples: int
) -> None:
    """Refuse data from which nothing can be learnt. Every rank knows the same, and raises the same."""
    fraction = config.held_out_fraction
    if fraction and counts.sum(dtype=np.int64) == n_samples:
        raise InputError(
            f"--valid-fraction {fraction} of {n_samples} samples holds none of them out; raise it"
        ).on_all_ranks()
    for name, count in zip(classes, counts, strict=True):
        if count == 0:
            raise InputError(
                f"{path}: class {name!r} is in the held-out samples but never seen in training; lower --valid-fraction "
                "or take another --seed"
            ).on_all_ranks()
