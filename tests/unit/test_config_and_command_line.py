import dataclasses
import itertools
import math
import os
import re
import shlex
import string
import subprocess
import sys

import numpy as np
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from distsoftmax.command_line import UsageText, parse
from distsoftmax.config import (
    DataConfig,
    ObjectiveConfig,
    RunConfig,
    ScoringConfig,
    SolverConfig,
    SourceConfig,
    TrainConfig,
    parse_l2_path,
)
from distsoftmax.config.file_paths import lasting
from distsoftmax.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PARTS = {"data": DataConfig, "objective": ObjectiveConfig, "solver": SolverConfig, "run": RunConfig}
OPTIONS = [(part, item.name) for part, config in PARTS.items() for item in dataclasses.fields(config)]

# for each option a value that is not its default
OTHERS = {
    "data": ("data.csv",),
    "labels": ("y.npy", "z.npy"),
    "format": "svmlight",
    "label": "the class",
    "header": "yes",
    "separator": ";",
    "decimal": ",",
    "index_base": "0",
    "weight": "w",
    "class_weight": "balanced",
    "features": ("a", "b c"),
    "one_hot": ("auto",),
    "drop": ("id",),
    "missing": ("?", "-999"),
    "drop_rows_missing": True,
    "impute": "mean",
    "n_features": 10,
    "valid": ("valid.csv", "more.csv"),
    "valid_labels": ("valid_y.npy",),
    "valid_fraction": 0.1,
    "standardize": False,
    "center": "no",
    "dtype": "float64",
    "memory": "2GiB",
    "scratch": "/scratch",
    "shards": 7,
    "seed": 2**63 - 1,
    "l2": 1e-05,
    "l2_path": "1e-1:1e-6:20",
    "l1": 1e-3,
    "group": 1e-3,
    "intercept": False,
    "solver": None,  # there is one
    "learning_rate": 0.1,
    "momentum": 0.9,
    "nesterov": True,
    "batch": 256,
    "epochs": 3,
    "schedule": "cosine",
    "warm_up": 0.5,
    "linear_scaling": 128,
    "average": True,
    "init": "runs/before",
    "patience": 3,
    "max_steps": 0,
    "max_seconds": 0.5,
    "tolerance": 0.0,
    "config": None,  # not an option of the run
    "out": "a folder/of results",
    "resume": "never",
    "checkpoint_every": 5,
    "checkpoint_seconds": 0.5,
    "keep_checkpoints": 1,
    "on_save_error": "continue",
    "metrics_every": 2,
    "evaluate_every": 0,
    "progress": "never",
    "threads": 4,
    "balance": "weighted",
    "weights": "weights.txt",
    "warm": None,  # of one start of the run
    "timeout": 2.5,
    "tensorboard": True,
    "mlflow": True,
    "deadline": "2026-03-01T06:00",
    "strict": True,
}

NEEDED = {  # by an option, of other options
    "valid_labels": {"valid": ("valid.csv",)},
    "learning_rate": {"solver": "gradient-descent"},
    "momentum": {"solver": "sgd"},
    "nesterov": {"solver": "sgd", "momentum": 0.5},
    "linear_scaling": {"solver": "sgd", "learning_rate": 0.5},
    "weights": {"balance": "weighted"},
    **{name: {"solver": "sgd"} for name in ("batch", "epochs", "schedule", "warm_up", "average")},
}


def train(*arguments):
    return parse(TrainConfig, [str(argument) for argument in arguments], "train")


def from_its_folder(path):
    """What a file means to a command that is started where it lies."""
    before = os.getcwd()
    os.chdir(path.parent)
    try:
        return train("--config", path)
    finally:
        os.chdir(before)


def usage_text(*arguments):
    with pytest.raises(UsageText) as caught:
        train(*arguments)
    return caught.value.status, str(caught.value)


def refusal(*arguments):
    with pytest.raises(InputError) as caught:
        train(*arguments)
    return str(caught.value)


def with_other(part, name):
    """Return a config all of whose options have their defaults but one, and those that one needs."""
    values = {name: OTHERS[name], **NEEDED.get(name, {})}
    about_files = {item.name for item in dataclasses.fields(SourceConfig)} | {"n_features", "valid", "valid_labels"}
    if name in about_files - {"data"}:
        values["data"] = ("data.csv",)
    return TrainConfig(**{part: PARTS[part](**values)})


def reads_back(config, path):
    path.write_text(tomli_w.dumps(config.sections()), encoding="utf-8")
    found = from_its_folder(path)
    return dataclasses.replace(found, run=dataclasses.replace(found.run, config=config.run.config))


@pytest.fixture
def toml(tmp_path, monkeypatch):
    """Write a file of options into the working directory."""
    monkeypatch.chdir(tmp_path)

    def toml(content, name="options.toml"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return toml


def test_every_option_has_an_other_value_here():
    assert sorted(OTHERS) == sorted(name for _, name in OPTIONS)


OUT_OF_RANGE = [
    (DataConfig, {"shards": 0}, "--shards is 0; it must be at least 1"),
    (DataConfig, {"shards": -1}, "--shards is -1; it must be at least 1"),
    (DataConfig, {"seed": -1}, "--seed is -1; it must be an integer from 0 to"),
    (DataConfig, {"seed": 2**63}, f"--seed is {2**63}; it must be an integer from 0 to"),
    (DataConfig, {"valid_fraction": 1.0}, "--valid-fraction is 1.0; it must be at least 0 and less than 1"),
    (DataConfig, {"valid_fraction": -0.1}, "--valid-fraction is -0.1; it must be at least 0 and less than 1"),
    (DataConfig, {"valid_fraction": math.nan}, "--valid-fraction is nan; it must be at least 0 and less than 1"),
    (DataConfig, {"data": ("a",), "valid": ("b",), "valid_fraction": 0.1}, "--valid and --valid-fraction both"),
    (DataConfig, {"n_features": 0, "data": ("a",)}, "--n-features is 0; it must be at least 1"),
    (DataConfig, {"one_hot": ("a",)}, "--one-hot was given without --data"),
    (DataConfig, {"labels": ("y.npy",)}, "--labels was given without --data"),
    (DataConfig, {"label": "y"}, "--label was given without --data"),
    (DataConfig, {"valid": ("b.csv",)}, "--valid was given without --data"),
    (DataConfig, {"valid_labels": ("b.npy",)}, "--valid-labels was given without --valid"),
    (DataConfig, {"separator": ";"}, "--separator was given without --data"),
    (ObjectiveConfig, {"l2": -1e-300}, "--l2 is -1e-300; it must be a finite number, 0 or more"),
    (ObjectiveConfig, {"l2": math.inf}, "--l2 is inf; it must be a finite number, 0 or more"),
    (ObjectiveConfig, {"l2": math.nan}, "--l2 is nan; it must be a finite number, 0 or more"),
    (ObjectiveConfig, {"l2_path": "1e-1:1e-6"}, "--l2-path is 1e-1:1e-6; give FROM:TO:COUNT, as in 1e-1:1e-6:20"),
    (ObjectiveConfig, {"l2_path": "1e-1:1e-6:2:2"}, "--l2-path is 1e-1:1e-6:2:2; give FROM:TO:COUNT"),
    (ObjectiveConfig, {"l2_path": "1e-1:1e-6:2.5"}, "--l2-path is 1e-1:1e-6:2.5; give FROM:TO:COUNT"),
    (ObjectiveConfig, {"l2_path": "much:little:20"}, "--l2-path is much:little:20; give FROM:TO:COUNT"),
    (ObjectiveConfig, {"l2_path": "1e-6:1e-1:20"}, "--l2-path is 1e-6:1e-1:20; it must descend"),
    (ObjectiveConfig, {"l2_path": "1e-1:1e-1:20"}, "--l2-path is 1e-1:1e-1:20; it must descend"),
    (ObjectiveConfig, {"l2_path": "1:0.99999999999:100"}, "--l2-path is 1:0.99999999999:100; it must descend"),
    (ObjectiveConfig, {"l2_path": "1e-1:0:20"}, "--l2-path is 1e-1:0:20; its values must be above 0"),
    (ObjectiveConfig, {"l2_path": "1e-1:-1e-6:20"}, "--l2-path is 1e-1:-1e-6:20; its values must be above 0"),
    (ObjectiveConfig, {"l2_path": "inf:1e-6:20"}, "--l2-path is inf:1e-6:20; its values must be above 0"),
    (ObjectiveConfig, {"l2_path": "nan:1e-6:20"}, "--l2-path is nan:1e-6:20; its values must be above 0"),
    (ObjectiveConfig, {"l2_path": "1e-1:1e-6:1"}, "--l2-path is 1e-1:1e-6:1; COUNT must be from 2 to 1000"),
    (ObjectiveConfig, {"l2_path": "1e-1:1e-6:1001"}, "--l2-path is 1e-1:1e-6:1001; COUNT must be from 2 to 1000"),
    (ObjectiveConfig, {"l2_path": "1e-1:1e-6:20", "l2": 0.1}, "--l2 and --l2-path both set the L2 penalty"),
    (SolverConfig, {"patience": 0}, "--patience is 0; it must be at least 1"),
    (SolverConfig, {"max_seconds": 0.0}, "--max-seconds is 0.0; it must be a finite number above 0"),
    (SolverConfig, {"max_seconds": -1.0}, "--max-seconds is -1.0; it must be a finite number above 0"),
    (SolverConfig, {"max_seconds": math.inf}, "--max-seconds is inf; it must be a finite number above 0"),
    (SolverConfig, {"max_seconds": math.nan}, "--max-seconds is nan; it must be a finite number above 0"),
    (SolverConfig, {"learning_rate": 0.0}, "--learning-rate is 0.0; it must be a number above 0, or auto"),
    (SolverConfig, {"learning_rate": -1.0}, "--learning-rate is -1.0; it must be a number above 0, or auto"),
    (SolverConfig, {"learning_rate": math.inf}, "--learning-rate is inf; it must be a number above 0, or auto"),
    (SolverConfig, {"learning_rate": math.nan}, "--learning-rate is nan; it must be a number above 0, or auto"),
    (SolverConfig, {"max_steps": -1}, "--max-steps is -1; it must be 0 or more"),
    (SolverConfig, {"tolerance": -1.0}, "--tolerance is -1.0; it must be a finite number, 0 or more"),
    (SolverConfig, {"tolerance": math.inf}, "--tolerance is inf; it must be a finite number, 0 or more"),
    (SolverConfig, {"tolerance": math.nan}, "--tolerance is nan; it must be a finite number, 0 or more"),
    (RunConfig, {"checkpoint_every": 0}, "--checkpoint-every is 0; it must be at least 1"),
    (RunConfig, {"checkpoint_seconds": -0.5}, "--checkpoint-seconds is -0.5; it must be 0 or more"),
    (RunConfig, {"checkpoint_seconds": math.nan}, "--checkpoint-seconds is nan; it must be 0 or more"),
    (RunConfig, {"keep_checkpoints": 0}, "--keep-checkpoints is 0; it must be at least 1"),
    (RunConfig, {"metrics_every": 0}, "--metrics-every is 0; it must be at least 1"),
    (RunConfig, {"evaluate_every": -1}, "--evaluate-every is -1; it must be 0 or more"),
    (RunConfig, {"threads": 0}, "--threads is 0; it must be at least 1"),
    (RunConfig, {"timeout": -1.0}, "--timeout is -1.0; it must be a finite number, 0 or more"),
    (RunConfig, {"timeout": math.inf}, "--timeout is inf; it must be a finite number, 0 or more"),
    (RunConfig, {"timeout": math.nan}, "--timeout is nan; it must be a finite number, 0 or more"),
    (RunConfig, {"deadline": "tomorrow"}, "--deadline is tomorrow; give a time, as in 2026-03-01T06:00"),
    (RunConfig, {"weights": "hosts.txt"}, "--weights was given without --balance weighted: add it, or leave"),
    (RunConfig, {"deadline": "nan"}, "--deadline is nan; give a time, as in 2026-03-01T06:00"),
]


@pytest.mark.parametrize(("part", "options", "message"), OUT_OF_RANGE, ids=str)
def test_a_value_out_of_range_is_refused_with_the_range(part, options, message):
    with pytest.raises(InputError) as caught:
        part(**options)
    assert message in str(caught.value)


@pytest.mark.parametrize(("part", "options", "message"), OUT_OF_RANGE, ids=str)
def test_the_command_line_refuses_the_same(part, options, message):
    assert message in refusal(*(f"--{name.replace('_', '-')}={value}" for name, value in options.items()))


@pytest.mark.parametrize(
    ("part", "options"),
    [
        (DataConfig, {"shards": 1, "seed": 0, "valid_fraction": 0.0}),
        (DataConfig, {"seed": 2**63 - 1, "valid_fraction": 0.999}),
        (DataConfig, {"data": ("a.csv",), "valid": ("b.csv",), "valid_fraction": 0.0}),
        (ObjectiveConfig, {"l2": 0.0}),
        (SolverConfig, {"solver": "gradient-descent", "learning_rate": 5e-324, "max_steps": 0, "tolerance": 0.0}),
        (RunConfig, {"checkpoint_every": 1, "checkpoint_seconds": 0.0, "keep_checkpoints": 1}),
        (RunConfig, {"metrics_every": 1, "evaluate_every": 0, "threads": 1, "checkpoint_seconds": math.inf}),
        (RunConfig, {"timeout": 0.0, "deadline": "0"}),
    ],
    ids=str,
)
def test_the_ends_of_a_range_belong_to_it(part, options):
    config = part(**options)
    assert {name: getattr(config, name) for name in options} == options


@pytest.mark.parametrize(
    ("options", "fraction"),
    [({}, 0.2), ({"data": ("a.csv",)}, 0.0), ({"valid_fraction": 0.3}, 0.3), ({"valid_fraction": 0.0}, 0.0)],
    ids=str,
)
def test_only_the_digits_are_held_out_by_default(options, fraction):
    assert DataConfig(**options).held_out_fraction == fraction


@pytest.mark.parametrize(
    "config", [TrainConfig(), *(part() for part in PARTS.values()), ScoringConfig(model="m", data=("d",))]
)
def test_configs_are_frozen(config):
    for item in dataclasses.fields(config):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, item.name, None)


@pytest.mark.parametrize("config", [TrainConfig, *PARTS.values(), ScoringConfig])
def test_configs_take_no_positional_values(config):
    with pytest.raises(TypeError):
        config("value")


def test_no_arguments_give_the_defaults():
    assert train() == TrainConfig()


def as_words(key, value):
    return [f"--{key}", *(value if isinstance(value, tuple) else [value])]


@pytest.mark.parametrize(("part", "name"), OPTIONS)
def test_each_option_sets_its_own_field(part, name):
    if OTHERS[name] is None:
        return
    expected = with_other(part, name)
    arguments = []
    for key, value in expected.sections()[part].items():
        if value != TrainConfig().sections()[part].get(key):
            arguments += [f"--{'' if value else 'no-'}{key}"] if isinstance(value, bool) else as_words(key, value)
    assert arguments
    assert train(*arguments) == expected


def test_the_flags_go_both_ways():
    assert train("--no-intercept", "--no-standardize") == TrainConfig(
        objective=ObjectiveConfig(intercept=False), data=DataConfig(standardize=False)
    )
    assert train("--intercept", "--standardize") == TrainConfig()


def test_help_is_a_text_that_lists_every_option():
    status, text = usage_text("--help")
    assert status == 0
    for _, name in OPTIONS:
        assert f"--{name.replace('_', '-')}" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--learning-rat", "1"], ["--learning-rat,", "--learning-rate"]),
        (["--max-step", "1"], ["--max-step,", "--max-steps"]),
        (["--no-intercep"], ["--no-intercep", "--no-intercept"]),
        (["stray"], ["stray"]),
        (["--max-steps", "many"], ["--max-steps", "many"]),
        (["--max-steps", "1.5"], ["--max-steps", "1.5"]),
        (["--l2", "small"], ["--l2", "small"]),
        (["--learning-rate", "fast"], ["--learning-rate", "fast", "auto"]),
        (["--header", "maybe"], ["--header", "maybe", "auto", "yes", "no"]),
        (["--max-steps"], ["--max-steps"]),
        (["--config"], ["--config"]),
    ],
    ids=str,
)
def test_what_cannot_be_parsed_has_status_2_and_names_the_option(arguments, words):
    status, text = usage_text(*arguments)
    assert status == 2
    for word in words:
        assert word in text


def test_the_nearest_option_is_suggested():
    assert "Perhaps you meant" in usage_text("--learning-rat", "1")[1]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--max-steps", "1.5"], "'1.5' is not an integer"),
        (["--patience", "x"], "'x' is not an integer"),
        (["--l2", "small"], "'small' is not a number"),
        (["--threads", "few"], "'few' is not an integer or auto"),
        (["--learning-rate", "fast"], "'fast' is not a number or auto"),
    ],
    ids=str,
)
def test_a_value_that_is_no_number_is_refused_in_words(arguments, complaint):
    _, text = usage_text(*arguments)
    assert complaint in " ".join(text.split())
    assert not re.search(r"<class|None|\(default: *\)", text)


def listed(value):
    return list(value) if isinstance(value, tuple) else value


# a TOML file of all options, for every option
@pytest.mark.parametrize(("part", "name"), OPTIONS)
def test_the_config_that_is_printed_reads_back_with_paths_that_hold_anywhere(part, name, tmp_path, monkeypatch):
    if OTHERS[name] is None:
        return
    monkeypatch.chdir(tmp_path)
    expected = with_other(part, name)
    (tmp_path / "given.toml").write_text(tomli_w.dumps(expected.sections()))
    status, text = usage_text("--config", tmp_path / "given.toml", "--print-config")
    assert status == 0
    (tmp_path / "printed.toml").write_text(text)
    found = train("--config", tmp_path / "printed.toml").sections()
    assert {key: {option: listed(value) for option, value in of.items()} for key, of in found.items()} == {
        key: {option: lasting(option, value) for option, value in of.items()} for key, of in expected.sections().items()
    }
    for option in (item.name.replace("_", "-") for kind in PARTS.values() for item in dataclasses.fields(kind)):
        assert option == "config" or re.search(f"^(# )?{option} = ", text, re.MULTILINE), option


def test_the_config_that_is_printed_has_what_holds_for_one_start(tmp_path):
    (tmp_path / "printed.toml").write_text(usage_text("--warm", "--print-config")[1])
    assert train("--config", tmp_path / "printed.toml").run.warm


def test_a_config_that_makes_no_sense_is_refused_and_not_printed():
    assert "--l2 is -1.0" in refusal("--l2", "-1", "--print-config")


def test_parsing_loads_nothing_that_it_does_not_need():
    program = """
import sys
from distsoftmax.command_line import parse
from distsoftmax.config import TrainConfig
parse(TrainConfig, ["--data", "a.csv", "b.csv", "--label", "y"], "train")
print(*{"typeguard", "asyncio", "unittest", "mpi4py", "scipy", "pyarrow"} & set(sys.modules))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "\n"


def test_a_run_on_dense_arrays_loads_what_is_for_other_files_and_commands_no_more_than_parsing_does(tmp_path):
    generator = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", X=generator.standard_normal((60, 3)), y=generator.integers(0, 2, 60))
    program = """
import runpy, sys
sys.modules["mpi4py"] = None
sys.argv = ["train", "--data", "d.npz", "--l2", "1e-2", "--max-steps", "2", "--out", "run"]
try:
    runpy.run_module("distsoftmax.train", run_name="__main__")
except SystemExit as end:
    assert not end.code
print(*{"pandas", "sklearn", "scipy", "pyarrow", "h5py", "matplotlib"} & set(sys.modules))
"""
    words = [sys.executable, "-c", program]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path)
    assert ended.stdout.endswith("\n\n"), ended.stdout


def test_nothing_is_printed_by_parsing(capfd):
    usage_text("--help")
    usage_text("--learning-rat", "1")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "content",
    [
        'data = "a.csv"\nl2 = 0.5\nmax-steps = 3\nintercept = false\nthreads = 2\n',
        'data = "a.csv"\nl2 = 0.5\nmax_steps = 3\nintercept = false\nthreads = 2\n',
        '[run]\nthreads = 2\n[data]\ndata = "a.csv"\n[objective]\nl2 = 0.5\nintercept = false\n[solver]\nmax_steps = 3',
        'threads = 2\n[data]\ndata = "a.csv"\n[objective]\nl2 = 0.5\nintercept = false\n[solver]\nmax-steps = 3\n',
    ],
    ids=["flat", "flat with underscores", "sections", "mixed"],
)
@pytest.mark.parametrize("form", ["two words", "one word"])
def test_a_file_of_options_may_have_sections_or_not(toml, content, form):
    path = toml(content)
    assert train(*(["--config", path] if form == "two words" else [f"--config={path}"])) == TrainConfig(
        data=DataConfig(data=("a.csv",)),
        objective=ObjectiveConfig(l2=0.5, intercept=False),
        solver=SolverConfig(max_steps=3),
        run=RunConfig(threads=2, config=str(path)),
    )


@pytest.mark.parametrize("config_first", [True, False])
def test_the_command_line_wins_over_the_file(toml, config_first):
    path = toml("[objective]\nl2 = 0.5\nintercept = false\n[data]\nstandardize = true\nseed = 4\n")
    own = ["--l2", "0.25", "--intercept", "--no-standardize"]
    config = train(*(["--config", path, *own] if config_first else [*own, "--config", path]))
    assert (config.objective, config.data) == (ObjectiveConfig(l2=0.25), DataConfig(standardize=False, seed=4))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("max-step = 3\n", ["unknown key max-step", "did you mean max-steps?"]),
        ("[solver]\nlearning_rat = 3\n", ["unknown key learning_rat", "did you mean learning-rate?"]),
        ("[data]\nmax-steps = 3\n", ["unknown key max-steps"]),
        ("[solvr]\nmax-steps = 3\n", ["unknown section [solvr]", "did you mean solver?"]),
        ("[solver.more]\nmax-steps = 3\n", ["unknown key more"]),
        ("config = 'other.toml'\n", ["unknown key config"]),
        ("l2 = = 3\n", ["not valid TOML", "line 1"]),
        ("l2 = 1\nl2 = 2\n", ["not valid TOML"]),
        (b"out = '\xff'\n", ["not valid TOML", "utf-8"]),
        ("l2 = [1, 2]\n", ["l2 is [1, 2]", "single"]),
        ("[objective.l2]\na = 1\n", ["l2 is", "single"]),
        ("out = 2026-01-02\n", ["out is", "single"]),
        ("max-steps = -1\n", ["--max-steps is -1"]),
        (
            "l2 = 1e-3\n[objective]\nl2 = 1e-4\n",
            ["l2 is given twice, as l2 outside of the sections and as l2 in [objective]; keep one"],
        ),
        (
            "[solver]\nmax-steps = 1\nmax_steps = 2\n",
            ["given twice, as max-steps in [solver] and as max_steps in [sol"],
        ),
        ('out = "a\\u0000b"\n', ["out holds a null character"]),
        ('data = ["a", "b\\u0000"]\n', ["data holds a null character"]),
    ],
    ids=str,
)
def test_a_file_of_options_that_makes_no_sense_is_refused_with_the_reason(toml, content, words):
    text = refusal("--config", toml(content))
    if "--max-steps" not in text:
        assert "options.toml: " in text
    for word in words:
        assert word in text


@pytest.mark.parametrize(("name", "word"), [("none.toml", "No such file"), (".", "directory")])
def test_a_file_of_options_that_cannot_be_read_is_named(tmp_path, name, word):
    text = refusal("--config", tmp_path / name)
    assert text.startswith(f"{tmp_path / name}: cannot be read")
    assert word in text


@pytest.mark.parametrize("arguments", [[], ["--threads", "2"]], ids=str)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max-steps", "'many'"),
        ("max-steps", "1.5"),
        ("max-steps", "true"),
        ("max-steps", "false"),
        ("l2", "'small'"),
        ("l2", "true"),
        ("out", "true"),
        ("data", "false"),
        ("learning-rate", "true"),
        ("header", "'maybe'"),
        ("intercept", "'false'"),
        ("intercept", "'yes'"),
        ("standardize", "0"),
        ("standardize", "1.0"),
    ],
)
def test_a_value_of_the_wrong_type_in_a_file_is_refused_by_its_name(toml, key, value, arguments):
    with pytest.raises((InputError, UsageText)) as caught:
        train("--config", toml(f"{key} = {value}\n"), *arguments)
    assert getattr(caught.value, "status", None) == 2 or getattr(caught.value, "exit_status", None) == 2
    assert key in str(caught.value)


@pytest.mark.parametrize(("part", "name"), OPTIONS)
def test_each_option_reads_back_from_the_file_that_is_saved(tmp_path, part, name):
    if OTHERS[name] is not None:
        config = with_other(part, name)
        assert reads_back(config, tmp_path / "config.toml") == config


@pytest.mark.parametrize(
    "text", ["", "-1", "--l2", "a=b", "a b", 'a"b', "a\\b", "é日本", "1e5", "true", "None", "auto", "#"]
)
def test_any_text_reads_back_from_the_file_that_is_saved(tmp_path, text):
    config = TrainConfig(data=DataConfig(data=(text or "a.csv",), label=text), run=RunConfig(out=text or "run"))
    assert reads_back(config, tmp_path / "config.toml") == config


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("config") / "config.toml"


positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)


@settings(deadline=None, database=None, max_examples=40)
@given(
    st.text(string.printable + "é", min_size=1).filter(lambda text: text != "None"),
    positive,
    positive | st.just("auto"),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 2**63 - 1),
    st.booleans(),
)
def test_whatever_is_saved_reads_back(scratch, text, l2, rate, fraction, seed, flag):
    config = TrainConfig(
        data=DataConfig(data=(text,), valid_fraction=fraction, seed=seed, standardize=flag),
        objective=ObjectiveConfig(l2=l2, intercept=not flag),
        solver=SolverConfig(solver="sgd", learning_rate=rate, tolerance=l2),
        run=RunConfig(out=text, checkpoint_seconds=math.inf),
    )
    assert reads_back(config, scratch) == config


def test_the_saved_sections_hold_every_option_that_is_set():
    sections = tomllib.loads(tomli_w.dumps(with_other("run", "checkpoint_every").sections()))
    expected = {
        part: {
            item.name.replace("_", "-"): item.default
            for item in dataclasses.fields(config)
            if item.default not in (None, ()) and item.name != "warm"
        }
        for part, config in PARTS.items()
    }
    expected["run"]["checkpoint-every"] = 5
    assert sections == expected


def test_the_name_of_the_file_of_options_is_not_saved():
    assert "config" not in TrainConfig(run=RunConfig(config="options.toml")).sections()["run"]


FREE = {
    "data",
    "labels",
    "label",
    "format",
    "header",
    "separator",
    "decimal",
    "index_base",
    "weight",
    "class_weight",
    "features",
    "one_hot",
    "drop",
    "missing",
    "drop_rows_missing",  # by which rows are left out
    "n_features",
    "memory",
    "scratch",
    "valid",
    "valid_labels",
    "valid_fraction",
    "shards",
    "dtype",
    "max_steps",
    "max_seconds",
    "tolerance",
    "init",  # by its content, once it is read
    *(f.name for f in dataclasses.fields(RunConfig)),
}


@pytest.mark.parametrize(("part", "name"), OPTIONS)
def test_identity_tells_apart_what_takes_other_steps_and_nothing_else(part, name):
    if OTHERS[name] is None:
        return
    same = with_other(part, name).identity() == TrainConfig().identity()
    assert same == (name in FREE)


def test_the_values_of_a_path_are_in_equal_ratios_and_are_what_a_person_would_write():
    assert parse_l2_path("1e-1:1e-5:5") == (0.1, 0.01, 0.001, 0.0001, 0.00001)
    assert parse_l2_path("0.3:0.1:2") == (0.3, 0.1)
    values = parse_l2_path("1e-1:1e-6:20")
    assert len(values) == 20
    ratios = [other / one for one, other in itertools.pairwise(values)]
    assert max(ratios) / min(ratios) - 1 < 1e-11


PATIENT = {
    "none held out": ({"data": ("d.csv",)}, {}, "--patience needs held-out samples: give --valid FILE"),
    "none of the digits": ({"valid_fraction": 0.0}, {}, "--patience needs held-out samples"),
    "never evaluated": ({}, {"evaluate_every": 0}, "--patience counts the evaluations that --evaluate-every 0 leaves"),
}


@pytest.mark.parametrize("name", PATIENT)
def test_patience_without_evaluations_is_refused(name):
    data, run, message = PATIENT[name]
    with pytest.raises(InputError) as caught:
        TrainConfig(data=DataConfig(**data), run=RunConfig(**run), solver=SolverConfig(patience=2))
    assert message in str(caught.value)


@pytest.mark.parametrize("data", [{}, {"data": ("d",), "valid": ("v",)}, {"data": ("d",), "valid_fraction": 0.1}])
def test_patience_takes_any_held_out_samples(data):
    assert TrainConfig(data=DataConfig(**data), solver=SolverConfig(patience=1)).solver.patience == 1


def test_with_patience_the_steps_depend_on_when_there_is_an_evaluation_but_not_on_how_long_it_waits():
    def identity(patience, every):
        return TrainConfig(solver=SolverConfig(patience=patience), run=RunConfig(evaluate_every=every)).identity()

    assert identity(2, 10) == identity(5, 10)
    assert identity(2, 10) != identity(2, 20)
    assert identity(None, 10) == identity(None, 20)


def test_identity_goes_by_the_names_of_the_command_line():
    assert TrainConfig(solver=SolverConfig(solver="sgd", warm_up=0.5)).identity()["warm-up"] == 0.5
    assert not {"max-steps", "tolerance", "max_steps"} & set(TrainConfig().identity())


def test_scoring_takes_the_model_by_its_place():
    config = parse(ScoringConfig, ["runs/a", "--data", "b.csv", "--label", "y"], "predict")
    assert config == ScoringConfig(model="runs/a", data=("b.csv",), label="y")


@pytest.mark.parametrize(
    "arguments", [[], ["runs/a"], ["--data", "b.csv"], ["runs/a", "runs/b", "--data", "c.csv"]], ids=str
)
def test_scoring_needs_one_model_and_its_data(arguments):
    with pytest.raises((UsageText, InputError)) as caught:
        parse(ScoringConfig, arguments, "predict")
    assert getattr(caught.value, "status", 2) == 2


def test_a_model_is_named_by_its_file_or_its_folder(tmp_path):
    assert ScoringConfig(model=str(tmp_path), data=("d",)).model_path == tmp_path / "model.safetensors"
    assert ScoringConfig(model=str(tmp_path / "m.st"), data=("d",)).model_path == tmp_path / "m.st"


@pytest.mark.parametrize("words", ['["a.csv", "b c.csv"]', '"a.csv"'])
def test_an_option_that_takes_several_words_takes_one_or_a_list(toml, words):
    found = train("--config", toml(f"data = {words}\n")).data.data
    assert found == {"[": ("a.csv", "b c.csv"), '"': ("a.csv",)}[words[0]]


def test_the_command_line_wins_over_a_list_in_the_file(toml):
    path = toml('data = ["a.csv", "b.csv"]\n')
    assert train("--config", path, "--data", "c.csv", "d.csv").data.data == ("c.csv", "d.csv")


@pytest.mark.parametrize(
    "arguments",
    [["--data"], ["--data", ""], ["--data="], ["--data", "--l2", "1"], ["--data", "a.csv", "--features"]],
    ids=" ".join,
)
def test_an_option_that_takes_words_and_is_given_none_is_refused(arguments):
    with pytest.raises(InputError, match=r"--(data|features) names nothing.*variable of the shell"):
        parse(TrainConfig, arguments, "train")


@pytest.mark.parametrize("option", ["init", "class-weight", "config", "out", "scratch"])
@pytest.mark.parametrize("form", ["two words", "one word"])
def test_an_option_that_names_a_file_or_folder_and_is_given_an_empty_word_is_refused(option, form):
    with pytest.raises(InputError, match=f"--{option} names nothing"):
        train("--data", "d.npz", *([f"--{option}", ""] if form == "two words" else [f"--{option}="]))


NOT_UTF8 = "donn\udce9es.csv"  # what Python makes of a name in Latin-1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--data", NOT_UTF8], r"--data 'donn\udce9es.csv' is not UTF-8; name it by a link to it, or rename it"),
        (["--data", "données.csv", NOT_UTF8, "--l2", "1"], r"--data 'donn\udce9es.csv' is not UTF-8"),
        (["--l2", "1", f"--out=runs/{NOT_UTF8}"], r"--out 'runs/donn\udce9es.csv' is not UTF-8"),
        ([NOT_UTF8, "--l2", "1"], r"'donn\udce9es.csv' is not UTF-8"),
    ],
    ids=ascii,
)
def test_what_is_not_utf8_is_refused_with_its_option(arguments, complaint):
    with pytest.raises(InputError) as refusal:
        train(*arguments)
    assert str(refusal.value).startswith(complaint)
    str(refusal.value).encode()  # it can be printed


def test_an_empty_list_in_the_file_is_refused_as_an_option_without_words_is(toml):
    with pytest.raises(InputError, match="--data names nothing"):
        train("--config", toml("data = []\n"))


def test_scoring_refuses_an_empty_name_of_its_data_too():
    with pytest.raises(InputError, match="--data names nothing"):
        parse(ScoringConfig, ["model", "--data", ""], "evaluate")


@pytest.mark.parametrize("words", ["[1]", "[[]]", "[true]"])
def test_a_list_of_anything_but_texts_is_refused(toml, words):
    assert "must be a text, or a list of texts" in refusal("--config", toml(f"data = {words}\n"))


def test_centring_without_standardisation_is_refused():
    assert "--center yes is a part of --standardize" in refusal("--center", "yes", "--no-standardize")


def test_centring_without_an_intercept_is_refused():
    assert "--center yes needs an intercept" in refusal("--center", "yes", "--no-intercept")


def test_a_learning_rate_needs_no_solver_beside_it():
    given = train("--learning-rate", 0.01, "--momentum", 0.9, "--nesterov").solver
    assert (given.solver, given.learning_rate, given.momentum, given.nesterov) == ("auto", 0.01, 0.9, True)
    assert "--momentum is not for --solver auto" in refusal("--momentum", 0.9)
    assert "--epochs is not for --solver auto" in refusal("--learning-rate", 0.01, "--epochs", 3)
    assert "--learning-rate is not for --solver lbfgs" in refusal("--learning-rate", 0.01, "--solver", "lbfgs")


HELP = [sys.executable, "-m", "distsoftmax.train", "--help"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is always full")
def test_a_standard_output_that_is_full_is_one_clear_error():
    with open("/dev/full", "w") as full:
        ended = subprocess.run(HELP, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "error: standard output could not be written: No space left on device\n"


def test_a_standard_output_that_is_closed_is_no_error():
    command = ["sh", "-c", f"{shlex.join(HELP)} >&-"]
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
