"""Which labels are one class, and that it is the same one in every format."""

import io
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranks import on_ranks

from distsoftmax.cluster.communicator import Alone
from distsoftmax.config import DataConfig
from distsoftmax.data.class_names import are_numbers, class_names, in_order
from distsoftmax.data.dataset import load_dataset
from distsoftmax.data.shards import divide_source
from distsoftmax.data.source import SourceSpec
from distsoftmax.describe import DescribeConfig
from distsoftmax.errors import InputError
from distsoftmax.inspection.description import describe

NUMBERS = {
    "0": ["0", "-0", "+0", "0.0", "0.00", ".0", "0.", "0e0", "0.000000000000000000e+00", " 0", "-0.0\t"],
    "1": ["1", "+1", "1.0", "1.", "1e0", "10e-1", "1.000000000000000000e+00"],
    "-1": ["-1", "-1.00", "-1e0", " -1"],
    "1.5": ["1.5", "1.50", "+1.5", "15e-1", "1.500000000000000000e+00"],
    "0.1": ["0.1", "1.000000000000000056e-01", ".1"],
    "12345678901234567890": ["12345678901234567890", "+12345678901234567890"],
    "7" * 5000: ["7" * 5000],
    "1e-07": ["1e-7", "0.0000001"],
}
TEXTS = ["007", "01067", "00", "-01", "00.5", "1e999", "nan", "inf", "-inf", "1_0", "0x1", "1,5", "٣", "", "-", "1 0"]


@pytest.mark.parametrize(("name", "spellings"), NUMBERS.items())
def test_equal_numbers_are_one_class(name, spellings):
    assert class_names(spellings) == dict.fromkeys(spellings, name)
    assert class_names([name]) == {name: name}


@pytest.mark.parametrize("text", TEXTS)
def test_one_label_that_is_no_number_makes_texts_of_all(text):
    assert class_names(["0.0", "0", text, "+1"]) == {label: label for label in ("0.0", "0", text, "+1")}


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=9))
@settings(deadline=None, database=None)
def test_floats_are_one_class_exactly_where_they_are_equal(values):
    for spell in (repr, "{:.17g}".format, "{:.18e}".format, "{:+.20E}".format):
        names = class_names([spell(value) for value in values])
        assert len(set(names.values())) == len(set(values))
        assert are_numbers(names.values())
        assert [float(name) for name in in_order(set(names.values()))] == sorted(set(values))


def test_classes_are_in_order_by_value_or_as_texts():
    assert in_order(["10", "9", "-2", "9.5", "12345678901234567890"]) == (
        "-2",
        "9",
        "9.5",
        "10",
        "12345678901234567890",
    )
    assert in_order(["10", "9", "x"]) == ("10", "9", "x")


# --- in every format ---

LABELS = np.array([0.0, 1.5, 10.0, 0.0, -2.0, 1.5, 10.0, -2.0, 0.0, 1.5, 0.0])
FEATURES = np.random.default_rng(0).standard_normal((LABELS.size, 2))


def _text(spell, separator=","):
    return "".join(
        separator.join([spell(label), *map(repr, row)]) + "\n"
        for label, row in zip(LABELS.tolist(), FEATURES.tolist(), strict=True)
    )


def _csv(spell):
    return lambda path: path.with_suffix(".csv").write_text("y,a,b\n" + _text(spell))


def _savetxt(path):
    file = io.BytesIO()
    np.savetxt(file, np.column_stack([LABELS, FEATURES]), delimiter=",")
    path.with_suffix(".csv").write_bytes(b"y,a,b\n" + file.getvalue())


def _decimal_comma(path):
    path.with_suffix(".csv").write_text("y;a;b\n" + _text(repr, ";").replace(".", ","))


def _parquet(kind):
    def write(path):
        labels = pa.array(LABELS).cast(kind) if kind != pa.string() else pa.array([f"{label:.2f}" for label in LABELS])
        table = pa.table({"y": labels, "a": FEATURES[:, 0], "b": FEATURES[:, 1]})
        pq.write_table(table, path.with_suffix(".parquet"), row_group_size=3)

    return write


def _svmlight(path):
    lines = [f"{label:+} 1:{a!r} 2:{b!r}\n" for label, (a, b) in zip(LABELS, FEATURES.tolist(), strict=True)]
    path.with_suffix(".svm").write_text("".join(lines))


def _npz(kind):
    return lambda path: np.savez(path.with_suffix(".npz"), X=FEATURES, y=LABELS.astype(kind))


TABLE = {"label": "y"}
FORMATS = {
    "csv": (_csv(repr), TABLE),
    "csv, shortest": (_csv("{:g}".format), TABLE),
    "csv, two decimals": (_csv("{:.2f}".format), TABLE),
    "csv, savetxt": (_savetxt, TABLE),
    "csv, decimal comma": (_decimal_comma, {**TABLE, "decimal": ","}),
    "parquet float64": (_parquet(pa.float64()), TABLE),
    "parquet float32": (_parquet(pa.float32()), TABLE),
    "parquet text": (_parquet(pa.string()), TABLE),
    "npz float64": (_npz("float64"), {}),
    "npz float16": (_npz("float16"), {}),
    "npz text": (_npz("U5"), {}),
    "svmlight": (_svmlight, {}),
}


def written(folder, name):
    write, options = FORMATS[name]
    write(folder / "table")
    (path,) = folder.iterdir()
    return (str(path),), options


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
@pytest.mark.parametrize("name", FORMATS)
def test_the_classes_are_the_same_in_every_format_and_on_any_ranks(tmp_path, name, ranks):
    paths, options = written(tmp_path, name)
    for dataset in on_ranks(
        ranks, lambda cluster: load_dataset(DataConfig(data=paths, shards=4, **options), True, cluster)
    ):
        assert dataset.classes == ("-2", "0", "1.5", "10")
    described = describe(DescribeConfig(data=paths, **options), None, Alone())
    assert described.classes == {"0": 4, "1.5": 3, "-2": 2, "10": 2}


@pytest.mark.parametrize("name", FORMATS)
def test_the_classes_of_a_model_are_found_in_every_format(tmp_path, name):
    paths, options = written(tmp_path, name)
    divided = divide_source(SourceSpec(paths=paths, **options), 3, Alone())
    classes = ("-2", "0", "1.5", "10")
    codes = [divided.read_unchecked(shard).class_codes(classes) for shard in range(3)]
    assert [float(classes[code]) for code in np.concatenate(codes)] == LABELS.tolist()
    with pytest.raises(InputError, match=r"row 2: the class '\+?1[.,]50*(e\+00)?' was never seen in training"):
        for shard in range(3):
            divided.read_unchecked(shard).class_codes(("-2", "0", "10"))


def test_codes_keep_their_zeros(tmp_path):
    (tmp_path / "t.csv").write_text("zip,a\n01067,1\n1067,2\n10115,3\n")
    config = DataConfig(data=(str(tmp_path / "t.csv"),), label="zip")
    assert load_dataset(config, True, Alone()).classes == ("01067", "10115", "1067")
    assert math.isfinite(float("01067"))  # though Python would take it for a number
