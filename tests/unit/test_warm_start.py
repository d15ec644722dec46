from types import SimpleNamespace

import numpy as np
import pytest
from memory_source import MemorySource
from objectives import dataset_of
from ranks import on_ranks
from scipy.sparse import csr_array

from distsoftmax.data.standardization import Standardization
from distsoftmax.errors import InputError
from distsoftmax.model import Encoding, Model, NumberedNames
from distsoftmax.training.warm_start import start_parameters


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("center", ["auto", "yes", "no"])
@pytest.mark.parametrize("kind", ["dense", "sparse", "small integers", "as they are"])
def test_the_change_of_units_and_back_is_the_identity(kind, center, intercept):
    if center == "yes" and (kind == "as they are" or not intercept):
        return  # refused as options
    generator = np.random.default_rng(3)
    features = generator.standard_normal((300, 6)) * np.logspace(-6, 6, 6) + np.logspace(4, -4, 6)
    if kind == "sparse":
        features = csr_array(features * (generator.random(features.shape) < 0.3))
    if kind == "small integers":
        features = generator.integers(0, 255, features.shape).astype(np.uint8)
    source = MemorySource(features, generator.integers(0, 3, 300))
    options = {"center": center, "standardize": kind != "as they are", "dtype": "float64"}
    (dataset,) = on_ranks(1, lambda rank: dataset_of(source, rank, intercept, **options))
    units = dataset.standardization
    parameters = generator.standard_normal((3, 7))
    if not intercept:
        parameters[:, -1] = 0.0
    back = units.in_training_units(*units.in_own_units(parameters))
    coef = back[:, :-1]
    np.testing.assert_allclose(coef, parameters[:, :-1], rtol=1e-12)
    magnitude = 1 + np.abs(coef) @ np.abs(units.mean / units.scale)  # of what the intercept is a difference of
    assert np.max(np.abs(back[:, -1] - parameters[:, -1]) / magnitude) < 1e-12
    assert intercept or not back[:, -1].any()
    there = units.in_own_units(units.in_training_units(parameters[:, :-1], parameters[:, -1]))
    np.testing.assert_allclose(there[0], parameters[:, :-1], rtol=1e-12)


UNITS = Standardization(np.array([1.0, -2.0, 0.5]), np.array([2.0, 0.25, 1.0]), active=True)
ABC = Encoding(numeric=("a", "b", "c"))


def dataset(classes=("x", "y"), encoding=ABC, units=UNITS):
    return SimpleNamespace(classes=classes, encoding=encoding, standardization=units)


def model(classes=("x", "y"), encoding=ABC, intercept=(1.0, -1.0)):
    generator = np.random.default_rng(0)
    coef = generator.standard_normal((len(classes), len(encoding.feature_names)))
    return Model(coef, np.resize(np.array(intercept), len(classes)), classes, encoding)


def test_the_scores_are_those_of_the_model():
    features = np.random.default_rng(1).standard_normal((20, 3))
    parameters = start_parameters(model(), dataset(), "m", True)
    scores = (features - UNITS.mean) / UNITS.scale @ parameters[:, :-1].T + parameters[:, -1]
    np.testing.assert_allclose(scores, features @ model().coef.T + model().intercept, atol=1e-12)


def test_classes_and_features_go_by_their_names():
    plain = Standardization(np.zeros(3), np.ones(3), active=False)
    one = start_parameters(model(), dataset(("y", "x"), Encoding(numeric=("c", "a", "b")), plain), "m", True)
    np.testing.assert_array_equal(one[:, :-1], model().coef[::-1][:, [2, 0, 1]])
    np.testing.assert_array_equal(one[:, -1], [-1.0, 1.0])


def test_numbered_features_fit_as_many_without_names():
    numbered = Encoding(numeric=NumberedNames(3))
    found = start_parameters(model(encoding=numbered), dataset(encoding=numbered), "m", True)
    assert found.shape == (2, 4)
    named = Encoding(numeric=("x0", "x1", "x2"))
    np.testing.assert_array_equal(start_parameters(model(encoding=named), dataset(encoding=numbered), "m", True), found)


def colours(*texts):
    return Encoding(numeric=("a",), categories=(("colour", texts),))


MANY = tuple(f"class {place}" for place in range(10))
MISFITS = {
    "a class that is gone": (model(("x", "y", "z")), dataset(), ["the data lack its classes z"]),
    "a class that is new": (model(), dataset(("w", "x", "y")), ["it lacks the data's classes w"]),
    "many classes": (
        model(MANY),
        dataset(),
        [
            "the data lack its classes class 0, class 1, class 2 and 7 more (10 in all)",
            "it lacks the data's classes x, y",
        ],
    ),
    "features": (
        model(encoding=Encoding(numeric=("a", "b", "d"))),
        dataset(),
        ["the data lack its features d; it lacks the data's features c"],
    ),
    "categories": (
        model(encoding=colours("blue", "red")),
        dataset(encoding=colours("green", "red")),
        ["the data lack its features colour=blue; it lacks the data's features colour=green"],
    ),
    "both": (
        model(("x", "z"), Encoding(numeric=("a", "b"))),
        dataset(),
        ["its classes z", "the data's classes y", "the data's features c"],
    ),
    "more columns without names": (
        model(encoding=Encoding(numeric=NumberedNames(5))),
        dataset(encoding=Encoding(numeric=NumberedNames(3))),
        ["it has 5 features, the data 3: give --n-features 5"],
    ),
    "fewer columns without names": (
        model(encoding=Encoding(numeric=NumberedNames(2))),
        dataset(encoding=Encoding(numeric=NumberedNames(3))),
        ["it has 2 features, the data 3. Give a model"],
    ),
    "a name that occurs twice": (
        model(encoding=Encoding(numeric=("a", "b", "c", "c"))),
        dataset(),
        ["it has 4 features, the data 3"],
    ),
    "indices from 0 and from 1": (
        model(encoding=Encoding(numeric=NumberedNames(3), index_base=1)),
        dataset(encoding=Encoding(numeric=NumberedNames(3), index_base=0)),
        ["its columns count from 1, those of the data from 0: give --index-base 1"],
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_model_that_does_not_fit_is_refused_by_its_differences(name):
    misfit, data, words = MISFITS[name]
    with pytest.raises(InputError) as caught:
        start_parameters(misfit, data, "runs/before", True)
    assert str(caught.value).startswith("--init runs/before: the model does not fit the data: ")
    for word in words:
        assert word in str(caught.value)


def test_a_model_with_intercepts_is_no_start_for_a_run_without():
    with pytest.raises(InputError, match="the model has intercepts; leave --no-intercept out"):
        start_parameters(model(), dataset(), "m", False)
    assert start_parameters(model(intercept=(0.0, 0.0)), dataset(), "m", False).shape == (2, 4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_that_is_not_finite_is_no_start(value):
    broken = model()
    broken.coef[1, 2] = value
    with pytest.raises(InputError, match="coefficients that are not finite"):
        start_parameters(broken, dataset(), "m", True)
