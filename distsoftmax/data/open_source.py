"""Opening a source: its parts, their common format, and the reader for it."""

from __future__ import annotations

from dataclasses import replace

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.config import DataConfig, Format
from distsoftmax.data.formats import find_format
from distsoftmax.data.parts import FileState, find_parts, of_each_part
from distsoftmax.data.remote import masked
from distsoftmax.data.source import Source, SourceSpec
from distsoftmax.errors import InputError
from distsoftmax.model import Encoding


def open_source(spec: SourceSpec, cluster: Communicator) -> Source:
    """Return the reader for a source, with its parts found and nothing read but their first bytes. Collective.

    Raises
    ------
    InputError
        On every rank: a part is missing, no format can be told, two parts differ in it, or an option does not fit it.
    """
    parts = find_parts(spec.paths, cluster, spec.copies)
    file_format = spec.format if spec.format != "auto" else _common_format(parts, cluster)
    with cluster.agreement():
        _refuse_options_of_other_formats(spec, file_format)
    spec = replace(spec, format=file_format)
    if spec.format == "csv":
        from distsoftmax.data.readers.csv.source import CsvSource

        return CsvSource(spec, parts)
    if spec.format == "parquet":
        from distsoftmax.data.readers.parquet.source import ParquetSource

        return ParquetSource(spec, parts)
    for part in parts:
        if part.keys:
            name = part.keys[0][0]
            raise InputError(
                f"{part.path}: its folder's name holds a column, {name}, which {spec.format} files cannot have; "
                f"name the folders themselves, as in {name}=..."
            ).on_all_ranks()
    if spec.format == "svmlight":
        from distsoftmax.data.readers.svmlight.source import SvmlightSource

        return SvmlightSource(spec, parts)
    from distsoftmax.data.readers.arrays.archives import open_npz
    from distsoftmax.data.readers.arrays.files import open_npy
    from distsoftmax.data.readers.arrays.hdf5 import open_hdf5
    from distsoftmax.data.readers.arrays.source import ArraySource

    opened = {"npy": open_npy, "npz": open_npz, "hdf5": open_hdf5}[spec.format]
    return ArraySource(spec, parts, find_parts(spec.labels_paths, cluster, spec.copies), opened)


def training_source(config: DataConfig) -> Source | SourceSpec:
    """Return the source that --data names; without it, the digits."""
    if config.data:
        return SourceSpec.of(config)
    from distsoftmax.data.readers.arrays.source import digits

    return digits()


def training_source_again(config: DataConfig, encoding: Encoding) -> Source | SourceSpec:
    """Return the same source with what its first reading has shown, so that any part of it gives the same samples."""
    source = training_source(config)
    if encoding.index_base is None or isinstance(source, Source):
        return source
    return replace(source, index_base="1" if encoding.index_base else "0", n_features=len(encoding.numeric))


def held_out_source(config: DataConfig, encoding: Encoding) -> SourceSpec:
    """Return the source that --valid names, with the columns that training has."""
    spec = replace(SourceSpec.of(config), paths=config.valid, labels_paths=config.valid_labels)
    return spec.expecting(encoding)


def _common_format(parts: tuple[FileState, ...], cluster: Communicator) -> Format:
    formats = of_each_part(len(parts), lambda number: find_format(parts[number]), cluster)
    kinds = [(part.path, kind) for part, kind in zip(parts, formats, strict=True) if kind is not None]
    if not kinds:
        names = parts[0].path if len(parts) == 1 else f"{parts[0].path} and the other parts"
        raise InputError(f"{names}: {'is' if len(parts) == 1 else 'are'} empty").on_all_ranks()
    first_path, first = kinds[0]
    for path, kind in kinds:
        if kind != first:
            raise InputError(
                f"{path}: is in the {kind} format, but {first_path} in {first}; give parts of one format, or say it "
                "with --format"
            ).on_all_ranks()
    return first


def _refuse_options_of_other_formats(spec: SourceSpec, file_format: str) -> None:
    is_table = file_format in ("csv", "parquet")
    given = {
        "labels": (bool(spec.labels_paths), file_format in ("npy", "npz", "hdf5")),
        "label": (spec.label is not None, is_table or file_format in ("npz", "hdf5")),
        "weight": (spec.weight is not None, is_table or file_format in ("npz", "hdf5")),
        "features": (bool(spec.features), is_table),
        "drop": (bool(spec.drop), is_table),
        "keep": (bool(spec.keep), is_table),
        "one-hot": (bool(spec.one_hot) and spec.one_hot != ("auto",), is_table),
        "n-features": (spec.n_features is not None, file_format == "svmlight"),
    }
    for option, (is_given, fits) in given.items():
        if is_given and not fits:
            raise InputError(
                f"{' '.join(map(masked, spec.paths))}: --{option} does not apply to files in the {file_format} format"
            )
