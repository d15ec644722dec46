"""One table of samples, written in every format a source may have."""

import csv
import gzip
import itertools

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from scipy.sparse import csr_array, save_npz

N_ROWS = 211
GENERATOR = np.random.default_rng(7)
FEATURES = GENERATOR.standard_normal((N_ROWS, 5)).round(5) * [1, 10, 100, 0.01, 1]
FEATURES[GENERATOR.random(FEATURES.shape) < 0.3] = 0.0
FEATURES[:, 4] = np.arange(N_ROWS) % 7
NAMES = ["a", "b", "c", "d", "e"]
CLASSES = (FEATURES @ [2, -0.1, 0.01, 3, 0.2] > 0).astype(int) + (FEATURES[:, 1] > 5)
ONE = [0, N_ROWS]
SEVEN = [0, 1, 50, 50, 64, 65, 180, N_ROWS]  # uneven, and one of them empty


def _csv(path, rows, separator=",", decimal=".", opener=open):
    with opener(path, "wt", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerow(["a", "b", "kind", "c", "d", "e"])
        for values, label in zip(FEATURES[rows].tolist(), CLASSES[rows].tolist(), strict=True):
            cells = [repr(value).replace(".", decimal) for value in values]
            writer.writerow([*cells[:2], label, *cells[2:]])


def _zstd(path, rows):
    plain = path.with_name(path.name + ".plain")
    _csv(plain, rows)
    with pa.output_stream(path, compression="zstd") as file:
        file.write(plain.read_bytes())
    plain.unlink()


def _parquet(path, rows, kind="columns"):
    columns = {name: FEATURES[rows, place] for place, name in enumerate(NAMES)}
    if kind == "vector":
        flat = pa.array(FEATURES[rows].ravel())
        columns = {"v": pa.FixedSizeListArray.from_arrays(flat, 5)}
    table = pa.table({**columns, "kind": CLASSES[rows]})
    pa.parquet.write_table(table, path, row_group_size=40)


def _hdf5(path, rows):
    import h5py

    with h5py.File(path, "w") as file:
        file["X"], file["y"] = FEATURES[rows], CLASSES[rows]


def _npy(path, rows):
    np.save(path, FEATURES[rows])
    (path.parent / "labels").mkdir(exist_ok=True)
    np.save(path.parent / "labels" / path.name, CLASSES[rows])


def _csr(path, rows):
    save_npz(path, csr_array(FEATURES[rows]))
    (path.parent / "labels").mkdir(exist_ok=True)
    np.save(path.parent / "labels" / path.with_suffix(".npy").name, CLASSES[rows])


def _svmlight(path, rows, opener=open):
    with opener(path, "wt") as file:
        for values, label in zip(FEATURES[rows].tolist(), CLASSES[rows].tolist(), strict=True):
            entries = [f"{place}:{value!r}" for place, value in enumerate(values, start=1) if value]
            file.write(" ".join([str(label), *entries]) + "\n")


# format: (ending, how a part is written, the options that read it)
LABEL = {"label": "kind"}
DENSE = {
    "csv": ("csv", _csv, LABEL),
    "tsv": ("tsv", lambda path, rows: _csv(path, rows, "\t"), LABEL),
    "decimal comma": ("csv", lambda path, rows: _csv(path, rows, ";", ","), {**LABEL, "decimal": ","}),
    "csv gzip": ("csv.gz", lambda path, rows: _csv(path, rows, opener=gzip.open), LABEL),
    "csv zstd": ("csv.zst", _zstd, LABEL),
    "parquet": ("parquet", _parquet, LABEL),
    "parquet vector": ("parquet", lambda path, rows: _parquet(path, rows, "vector"), LABEL),
    "npy": ("npy", _npy, {"labels": "labels"}),
    "npz": ("npz", lambda path, rows: np.savez(path, X=FEATURES[rows], y=CLASSES[rows]), {}),
    "npz compressed": ("npz", lambda path, rows: np.savez_compressed(path, X=FEATURES[rows], y=CLASSES[rows]), {}),
    "hdf5": ("h5", _hdf5, {}),
}
SPARSE = {
    "svmlight": ("svm", _svmlight, {}),
    "svmlight gzip": ("svm.gz", lambda path, rows: _svmlight(path, rows, gzip.open), {}),
    "csr npz": ("npz", _csr, {"labels": "labels"}),
}
FORMATS = {**DENSE, **SPARSE}


def write(folder, name, cuts):
    """Write the table into parts and return (paths, options as keywords of `DataConfig`)."""
    ending, write_part, options = FORMATS[name]
    folder = folder / "parts"
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (start, stop) in enumerate(itertools.pairwise(cuts)):
        paths.append(folder / f"part-{number}.{ending}")
        write_part(paths[-1], slice(start, stop))
    options = dict(options)
    if "labels" in options:
        options["labels"] = tuple(str(path) for path in sorted((folder / "labels").iterdir()))
    return tuple(str(path) for path in paths), options


def write_source(folder, name, cuts):
    """Write the table and return (paths, options as keywords of `SourceSpec`)."""
    paths, options = write(folder, name, cuts)
    labels = options.pop("labels", ())
    return paths, {**options, "labels_paths": labels}
