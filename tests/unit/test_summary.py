"""The table of `summary`, against statsmodels, Stata's and R's published figures, and itself on other ranks."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import tomli_w

from distsoftmax.durable import write_atomically
from distsoftmax.inference import maximum
from distsoftmax.model import Encoding, Model

statsmodels = pytest.importorskip("statsmodels.api")
FOLDER = Path(statsmodels.__file__).parent
COLUMNS = ("logpopul", "selfLR", "age", "educ", "income")
ROUNDING = 1e-8


class Anes:
    """The American National Election Studies of 1996, which come with statsmodels; and weights and clusters of ours."""

    data = statsmodels.datasets.anes96.load_pandas().data
    features = data[[*COLUMNS]].to_numpy()
    labels = data["PID"].to_numpy().astype(int)
    design = statsmodels.add_constant(features, prepend=False)
    weights = np.random.default_rng(0).integers(0, 4, len(labels))
    clusters = np.random.default_rng(1).integers(0, 40, len(labels))


def save(names, classes, folder=".", label="label", parameters=None, categories=(), config=None, **of_encoding):
    """Save a model, of zeros by default: far from the optimum."""
    encoding = Encoding(numeric=tuple(names), categories=tuple(categories), **of_encoding)
    if parameters is None:
        parameters = np.zeros((len(classes), len(encoding.feature_names) + 1))
        parameters[0, -1] = 1e-9  # there is an intercept
    model = Model(parameters[:, :-1], parameters[:, -1], tuple(classes), encoding, label=label)
    Path(folder).mkdir(exist_ok=True)
    write_atomically(Path(folder, "model.safetensors"), *model.file_content())
    if config is not None:
        Path(folder, "config.toml").write_text(tomli_w.dumps({"data": {}, "objective": {}} | config))


def write_table(name, **columns):
    with open(name, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*(np.asarray(column).tolist() for column in columns.values()), strict=True))


def write_anes(rows=slice(None)):
    columns = {name: Anes.features[rows, number] for number, name in enumerate(COLUMNS)}
    write_table("anes.csv", **columns, label=Anes.labels[rows], w=Anes.weights[rows], person=Anes.clusters[rows])
    save(COLUMNS, "0123456")


@pytest.fixture
def summary(job):
    """Run the command, and return what --json prints."""

    def summary(*words, ranks=1, label=("--label", "label")):
        ended = job(ranks, "summary", ".", *label, "--json", *words)
        assert ended.status == 0, ended
        return json.loads(ended.out)

    return summary


@pytest.fixture
def refusal(job):
    def refusal(*words, ranks=1):
        ended = job(ranks, "summary", ".", *words)
        assert ended.status == 2, ended
        (line,) = ended.err.splitlines()
        return line.removeprefix("error: ")

    return refusal


def numbers(summary, column):
    """A column of the table, (n_classes - 1, width)."""
    rows = summary["coefficients"]
    return np.array([row[column] for row in rows]).reshape(len({row["class"] for row in rows}), -1)


def mnlogit(labels, design, **options):
    return statsmodels.MNLogit(labels, design).fit(method="newton", maxiter=100, tol=1e-14, disp=0, **options)


def assert_agree(summary, expected, factor=1.0):
    """The factor is that of the covariance."""
    np.testing.assert_allclose(numbers(summary, "coefficient"), expected.params.T, rtol=ROUNDING)
    np.testing.assert_allclose(numbers(summary, "std_error"), expected.bse.T * np.sqrt(factor), rtol=ROUNDING)
    if factor == 1.0:
        np.testing.assert_allclose(numbers(summary, "z"), expected.tvalues.T, rtol=ROUNDING)
        np.testing.assert_allclose(numbers(summary, "p"), expected.pvalues.T, rtol=1e-7)
        low, high = expected.conf_int().transpose(2, 0, 1)
        np.testing.assert_allclose(numbers(summary, "low"), low, rtol=1e-7, atol=1e-12)
        np.testing.assert_allclose(numbers(summary, "high"), high, rtol=1e-7, atol=1e-12)
    assert summary["log_likelihood"] == pytest.approx(expected.llf, rel=ROUNDING)
    assert summary["null_log_likelihood"] == pytest.approx(expected.llnull, rel=ROUNDING)  # by BFGS there


def test_the_table_is_that_of_statsmodels(summary):
    write_anes()
    table, expected = summary("--data", "anes.csv", "--features", *COLUMNS), mnlogit(Anes.labels, Anes.design)
    assert_agree(table, expected)
    assert table["aic"] == pytest.approx(expected.aic, rel=ROUNDING)
    assert table["bic"] == pytest.approx(expected.bic, rel=ROUNDING)
    assert table["mcfadden_r2"] == pytest.approx(expected.prsquared, rel=1e-7)
    test = table["likelihood_ratio"]
    assert (test["degrees_of_freedom"], test["statistic"]) == (expected.df_model, pytest.approx(expected.llr, rel=1e-7))
    assert test["p"] == pytest.approx(expected.llr_pvalue, rel=1e-5)
    np.testing.assert_allclose(numbers(table, "odds_ratio"), np.exp(expected.params.T), rtol=ROUNDING)


def test_the_table_is_that_of_stata_as_published(summary):
    """statsmodels' own tests hold these figures of Stata's mlogit."""
    write_anes()
    table = summary("--data", "anes.csv")
    coef = [-0.01153598, 0.29771435, -0.024945, 0.08249144, 0.00519655, -0.37340167]
    errors = [0.0342823657, 0.093626795, 0.0065248584, 0.0735865799, 0.0176336937, 0.6298376313]
    np.testing.assert_allclose(numbers(table, "coefficient")[0], coef, atol=1e-8)
    np.testing.assert_allclose(numbers(table, "std_error")[0], errors, atol=1e-9)
    assert table["log_likelihood"] == pytest.approx(-1461.922747312, abs=1e-6)
    assert table["likelihood_ratio"]["statistic"] == pytest.approx(576.8479253554, abs=1e-5)


def test_the_coefficients_are_those_of_nnet_multinom_as_published(summary):
    """The example of R's help page, multinom(low ~ ., bwt), on MASS' birthwt: to the tolerance that R stops at."""
    with (FOLDER / "genmod/tests/results/stata_lbw_glm.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["low"]]
    (mother,) = (row for row in rows if row["id"] == "76")
    mother["lwt"] = "105"  # as in MASS; Stata's copy has 106
    column = {name: [float(row[name] or 0) for row in rows] for name in ("low", "age", "lwt", "ptl", "ftv")}
    flags = {name: [row[name] for row in rows] for name in ("race", "smoke", "ht", "ui")}
    race = np.array(flags["race"])
    visits = np.array(column["ftv"])
    columns = {
        "age": column["age"],
        "lwt": column["lwt"],
        "black": (race == "black").astype(int),
        "other": (race == "other").astype(int),
        "smoke": [int(cell not in ("0", "nonsmoker", "no")) for cell in flags["smoke"]],
        "ptd": (np.array(column["ptl"]) > 0).astype(int),
        "ht": [int(cell not in ("0", "no")) for cell in flags["ht"]],
        "ui": [int(cell not in ("0", "no")) for cell in flags["ui"]],
        "ftv1": (visits == 1).astype(int),
        "ftv2": (visits >= 2).astype(int),
    }
    write_table("bwt.csv", **columns, label=[int(low) for low in column["low"]])
    save(columns, "01")
    table = summary("--data", "bwt.csv")
    published = [-0.03724311, -0.01565475, 1.192371, 0.7406606, 0.7555234, 1.343648]
    published += [1.913213, 0.6802007, -0.4363238, 0.1789888, 0.823477]
    np.testing.assert_allclose(numbers(table, "coefficient")[0], published, atol=5e-4)
    assert -2 * table["log_likelihood"] == pytest.approx(195.4755, abs=1e-4)
    assert table["aic"] == pytest.approx(217.4755, abs=1e-4)


def test_the_sandwich_is_that_of_statsmodels(summary):
    write_anes()
    table = summary("--data", "anes.csv", "--covariance", "sandwich")
    assert_agree(table, mnlogit(Anes.labels, Anes.design, cov_type="HC0"))


def test_clusters_are_those_of_statsmodels_but_for_its_factor(summary):
    write_anes()
    table = summary("--data", "anes.csv", "--cluster", "person", ranks=3)
    groups = {"groups": Anes.clusters, "use_correction": False}
    expected = mnlogit(Anes.labels, Anes.design, cov_type="cluster", cov_kwds=groups)
    assert table["n_clusters"] == 40
    assert_agree(table, expected, factor=40 / 39)


def test_the_clusters_of_rows_that_are_left_out_are_left_out(summary):
    write_anes()
    save(COLUMNS, "0123456", drop_rows_missing=True)
    lines = Path("anes.csv").read_text().splitlines()
    Path("holes.csv").write_text("\n".join([*lines[:40], ",1,2,3,4,5,1,nobody", ",1,2,3,4,5,1,", *lines[40:]]))
    expected = summary("--data", "anes.csv", "--cluster", "person")
    table = summary("--data", "holes.csv", "--cluster", "person", ranks=2)
    np.testing.assert_allclose(numbers(table, "std_error"), numbers(expected, "std_error"), rtol=1e-12)
    assert table["n_clusters"] == 40


def test_clusters_that_weigh_nothing_are_none(summary, refusal):
    write_anes()
    columns = {name: Anes.features[:, number] for number, name in enumerate(COLUMNS)}
    counted = Anes.clusters < 25
    write_table("half.csv", **columns, label=Anes.labels, w=counted * 1, person=Anes.clusters)
    table = summary("--data", "half.csv", "--weight", "w", "--cluster", "person", ranks=2)
    kept = {name: column[counted] for name, column in columns.items()}
    write_table("kept.csv", **kept, label=Anes.labels[counted], person=Anes.clusters[counted])
    expected = summary("--data", "kept.csv", "--cluster", "person")
    assert table["n_clusters"] == expected["n_clusters"] == 25
    np.testing.assert_allclose(numbers(table, "std_error"), numbers(expected, "std_error"), rtol=1e-12)
    write_table("one.csv", **columns, label=Anes.labels, w=(Anes.clusters == 3) * 1, person=Anes.clusters)
    options = ("--label", "label", "--weight", "w", "--cluster", "person")
    assert "all samples have the same cluster, person '3'" in refusal("--data", "one.csv", *options, ranks=2)
    write_table("none.csv", **columns, label=Anes.labels, w=0 * Anes.clusters, person=Anes.clusters)
    assert "cluster" not in refusal("--data", "none.csv", *options, ranks=2)


def test_a_run_that_weighted_its_samples_says_so_where_no_weight_is_given(summary):
    write_anes()
    save(COLUMNS, "0123456", config={"data": {"weight": "w"}})
    assert "weighted its samples (--weight w)" in " ".join(summary("--data", "anes.csv")["notes"])
    assert "weighted its samples" not in " ".join(summary("--data", "anes.csv", "--weight", "w")["notes"])


def test_weights_are_counts_of_rows(summary):
    write_anes()
    table = summary("--data", "anes.csv", "--weight", "w", ranks=2)
    times = np.repeat(np.arange(len(Anes.labels)), Anes.weights)
    assert_agree(table, mnlogit(Anes.labels[times], Anes.design[times]))
    assert (table["n_samples"], table["weight"]) == (np.count_nonzero(Anes.weights), Anes.weights.sum())


@pytest.mark.parametrize("unit", [1e-90, 1e-3, 1e90])
def test_the_sandwich_does_not_depend_on_the_unit_of_the_weights(summary, unit):
    write_anes()
    table = summary("--data", "anes.csv", "--weight", "w", "--covariance", "sandwich")
    columns = {name: Anes.features[:, number] for number, name in enumerate(COLUMNS)}
    write_table("scaled.csv", **columns, label=Anes.labels, w=Anes.weights * unit)
    scaled = summary("--data", "scaled.csv", "--weight", "w", "--covariance", "sandwich")
    for column in ("coefficient", "std_error"):
        np.testing.assert_allclose(numbers(scaled, column), numbers(table, column), rtol=1e-8)


def test_any_class_may_be_the_reference(summary):
    write_anes()
    table = summary("--data", "anes.csv", "--reference", "3")
    moved = (Anes.labels - 3) % 7  # statsmodels takes the smallest for the reference
    expected = mnlogit(moved, Anes.design)
    order = [(number - 3) % 7 - 1 for number in (0, 1, 2, 4, 5, 6)]
    np.testing.assert_allclose(numbers(table, "coefficient"), expected.params.T[order], rtol=1e-7)
    np.testing.assert_allclose(numbers(table, "std_error"), expected.bse.T[order], rtol=ROUNDING)


def test_bits_do_not_depend_on_the_number_of_ranks(summary):
    write_anes()
    digests = set()
    for ranks in (1, 2, 3, 5):
        words = ("--weight", "w", "--cluster", "person", "--csv", "table.csv", "--vcov", "v.npy")
        summary("--data", "anes.csv", *words, ranks=ranks)
        digests.add(hashlib.sha256(Path("table.csv").read_bytes() + Path("v.npy").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_two_classes_are_a_logit(summary):
    labels = (Anes.labels > 3).astype(int)
    write_table("two.csv", **{name: Anes.features[:, number] for number, name in enumerate(COLUMNS)}, label=labels)
    save(COLUMNS, "01")
    table, expected = summary("--data", "two.csv"), statsmodels.Logit(labels, Anes.design).fit(disp=0, tol=1e-14)
    np.testing.assert_allclose(numbers(table, "coefficient")[0], expected.params, rtol=ROUNDING)
    np.testing.assert_allclose(numbers(table, "std_error")[0], expected.bse, rtol=ROUNDING)


def test_a_model_without_intercept_has_none(summary):
    write_anes()
    save(COLUMNS, "0123456", config={"objective": {"intercept": False}})
    table, expected = summary("--data", "anes.csv"), mnlogit(Anes.labels, Anes.features)
    np.testing.assert_allclose(numbers(table, "coefficient"), expected.params.T, rtol=ROUNDING)
    np.testing.assert_allclose(numbers(table, "std_error"), expected.bse.T, rtol=ROUNDING)
    assert table["null_log_likelihood"] == pytest.approx(-len(Anes.labels) * np.log(7), rel=1e-12)


def test_features_far_from_0_lose_no_digits(summary):
    """A year and a share: the hessian of the features as they are has a condition number of 1e20."""
    shifted = Anes.features * [1e-6, 1, 1, 1, 1] + [0, 0, 1e5, 0, 0]
    write_table("far.csv", **{name: shifted[:, number] for number, name in enumerate(COLUMNS)}, label=Anes.labels)
    write_anes()
    near, far = summary("--data", "anes.csv"), summary("--data", "far.csv")
    errors, factors = numbers(near, "std_error")[:, :5], np.array([1e6, 1, 1, 1, 1])
    np.testing.assert_allclose(numbers(far, "std_error")[:, :5], errors * factors, rtol=1e-7)
    np.testing.assert_allclose(numbers(far, "z")[:, :5], numbers(near, "z")[:, :5], rtol=1e-6)


def test_the_covariance_matrix_is_that_of_statsmodels(summary):
    write_anes()
    summary("--data", "anes.csv", "--vcov", "v.npy")
    matrix, expected = np.load("v.npy"), np.asarray(mnlogit(Anes.labels, Anes.design).cov_params())
    assert (matrix == matrix.T).all()
    errors = np.sqrt(np.diag(expected))
    assert np.abs((matrix - expected) / np.outer(errors, errors)).max() < ROUNDING


# --- penalties ---


def ridge(features, labels, l2):
    """Estimates and H^-1 I H^-1, with every class's parameters free and an L2 term, by numpy alone."""
    z = np.column_stack([(features - features.mean(0)) / features.std(0), np.ones(len(features))])
    n_classes, width = labels.max() + 1, z.shape[1]
    theta, onehot = np.zeros((n_classes, width)), np.eye(n_classes)[labels]
    penalty = np.kron(np.eye(n_classes), np.diag([*[l2 * len(z)] * (width - 1), 0.0]))
    for _ in range(30):
        scores = z @ theta.T
        p = np.exp(scores - scores.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        gradient = ((onehot - p).T @ z).ravel() - penalty @ theta.ravel()
        between = np.einsum("ia,ab->iab", p, np.eye(n_classes)) - p[:, :, None] * p[:, None, :]
        information = np.einsum("iab,ij,ik->ajbk", between, z, z).reshape(n_classes * width, -1)
        inverse = np.linalg.pinv(information + penalty, rcond=1e-12)  # the intercepts are free to shift together
        theta += (inverse @ gradient).reshape(theta.shape)
    covariance = inverse @ information @ inverse
    contrast = np.kron(np.column_stack([-np.ones(n_classes - 1), np.eye(n_classes - 1)]), np.eye(width))
    return theta[1:] - theta[0], contrast @ covariance @ contrast.T, np.trace(inverse @ information)


def test_a_ridge_penalty_has_its_own_covariance(summary):
    features, labels, l2 = Anes.features[:, 1:4], Anes.labels // 3, 0.05
    names = COLUMNS[1:4]
    write_table("d.csv", **{name: features[:, number] for number, name in enumerate(names)}, label=labels)
    save(names, "012", config={"objective": {"l2": l2}})
    table = summary("--data", "d.csv")
    estimates, covariance, effective = ridge(features, labels, l2)
    deviation = features.std(0)
    np.testing.assert_allclose(numbers(table, "coefficient")[:, :3], estimates[:, :3] / deviation, rtol=1e-8)
    errors = np.sqrt(np.diag(covariance)).reshape(2, 4)[:, :3] / deviation
    np.testing.assert_allclose(numbers(table, "std_error")[:, :3], errors, rtol=1e-8)
    assert table["effective_parameters"] == pytest.approx(effective, rel=1e-8)
    assert (table["covariance"], table["l2"], table["likelihood_ratio"]) == ("ridge", l2, None)
    assert "biased towards 0" in " ".join(table["notes"])


@pytest.mark.parametrize("more", [(), ("--no-standardize",), ("--no-intercept",), ("--weight", "w")], ids=str)
def test_a_model_that_was_trained_is_at_its_penalised_optimum(job, summary, more):
    """The objective here is the one of training: its own solution moves by its tolerance alone."""
    write_anes()
    Path("model.safetensors").unlink()
    words = ("--features", *COLUMNS, "--l2", "1e-2", "--dtype", "float64", "--tolerance", "1e-10", "--out", ".")
    trained = job(1, "train", "--data", "anes.csv", "--label", "label", *words, *more)
    assert trained.status == 0, trained
    weight = more if "w" in more else ()
    table = summary("--data", "anes.csv", *weight)
    assert table["newton_decrement_of_model"] < 1e-5
    assert table["largest_change"] < 1e-2


def test_the_model_of_a_path_that_was_stopped_has_the_penalty_of_its_run(job, summary):
    write_anes()
    words = ("--data", "anes.csv", "--label", "label", "--features", *COLUMNS, "--dtype", "float64", "--out", "path")
    ended = job(1, "train", *words, "--l2-path", "1e-1:1e-3:2", "--max-seconds", "1e-9")
    assert ended.status == 75, ended
    assert json.loads(Path("path/path.json").read_text())["chosen"] is None
    ended = job(1, "summary", "path", "--data", "anes.csv", "--json")
    assert ended.status == 0, ended
    assert json.loads(ended.out)["l2"] == 0.1


def test_a_penalty_that_selects_features_is_refused(refusal):
    write_anes()
    for name in ("l1", "group"):
        save(COLUMNS, "0123456", config={"objective": {name: 1e-3}})
        assert f"was trained with --{name} 0.001; a penalty that makes coefficients 0" in refusal(
            "--data", "anes.csv", "--label", "label"
        )


def test_a_model_not_at_its_optimum_says_so(summary):
    write_anes()
    notes = " ".join(summary("--data", "anes.csv", "--no-polish")["notes"])
    assert "not at its optimum on these samples" in notes
    assert "far from the model" in " ".join(summary("--data", "anes.csv")["notes"])


# --- data of which there are no estimates, or not all ---


def test_separable_classes_are_named_with_the_features(refusal):
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 60)
    size, noise = generator.standard_normal((2, 180))
    write_table("d.csv", size=size + 10 * (labels == 2), noise=noise, label=np.array(["a", "b", "c"])[labels])
    save(("size", "noise"), "abc")
    for words in ((), ("--no-polish",), ("--covariance", "sandwich")):
        text = refusal("--data", "d.csv", "--label", "label", *words, ranks=2)
        assert "class 'c' is separated from 'a', 'b' by size, so the likelihood has no maximum" in text
        assert "noise" not in text


def test_the_model_as_it_is_needs_no_steps_that_end(summary, monkeypatch, refusal):
    """Where Newton's method does not come to an end the error advises --no-polish."""
    write_anes()
    monkeypatch.setattr(maximum, "MOST_STEPS", 1)
    assert "take the model as it is with --no-polish" in refusal("--data", "anes.csv", "--label", "label")
    table = summary("--data", "anes.csv", "--no-polish")
    assert np.abs(numbers(table, "coefficient")).max() == 1e-9  # as they were saved


def test_classes_that_are_separated_but_for_ties_are_named(refusal):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 200)
    write_table("d.csv", treated=labels & generator.integers(0, 2, 200), age=generator.random(200), label=labels)
    save(("treated", "age"), "01")
    assert "separated but for ties from '1' by treated" in refusal("--data", "d.csv", "--label", "label")


def test_classes_that_can_almost_be_separated_have_estimates(summary):
    x = np.concatenate([np.linspace(0, 1, 50), np.linspace(1.02, 2, 50), [0.995]])
    labels = np.repeat([0, 1], [50, 51])
    write_table("d.csv", x=x, label=labels)
    save(("x",), "01")
    table = summary("--data", "d.csv")
    expected = statsmodels.Logit(labels, statsmodels.add_constant(x, prepend=False)).fit(disp=0, maxiter=200)
    np.testing.assert_allclose(numbers(table, "std_error")[0], expected.bse, rtol=1e-7)


def test_features_that_follow_from_others_are_omitted_and_named(summary):
    columns = {name: Anes.features[:, number] for number, name in enumerate(COLUMNS)}
    both = columns["age"] - 2 * columns["educ"] + 5
    columns = {"flat": np.full(len(both), 7.0), **columns, "both": both}
    colour = np.array(["blue", "green", "red"])[np.arange(len(both)) % 3]
    write_table("d.csv", **columns, colour=colour, label=Anes.labels)
    parameters = np.random.default_rng(0).standard_normal((7, 11)) / 100
    save(columns, "0123456", parameters=parameters, categories=[("colour", ("blue", "green", "red"))])
    table = summary("--data", "d.csv", ranks=2)
    assert table["omitted"] == [
        "flat is constant",
        "both follows from age, educ",
        "colour=blue follows from colour=green, colour=red",
    ]
    design = np.column_stack([Anes.features, colour == "green", colour == "red", np.ones(len(both))]).astype(float)
    assert_agree(table, mnlogit(Anes.labels, design))


def test_what_omitted_features_add_is_kept_in_the_others(summary):
    """The same scores, by other coefficients: Newton's method starts at the model, wherever its coefficients stand."""
    write_table("d.csv", age=Anes.features[:, 2], months=12 * Anes.features[:, 2] + 3, label=Anes.labels)
    split, joined = np.zeros((7, 3)), np.zeros((7, 3))
    split[3], joined[3] = (0.01, 0.002, -0.5), (0.01 + 12 * 0.002, 0.0, -0.5 + 3 * 0.002)
    decrements = []
    for parameters in (split, joined):
        save(("age", "months"), "0123456", parameters=parameters)
        decrements.append(summary("--data", "d.csv")["newton_decrement_of_model"])
    assert decrements[0] == pytest.approx(decrements[1], rel=1e-9)


def test_a_class_without_samples_is_an_error(refusal):
    write_anes()
    save(COLUMNS, "01234567")
    assert "class '7' of the model has no samples here" in refusal("--data", "anes.csv", "--label", "label", ranks=2)


# --- bad input ---


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--reference", "9"), "--reference is '9', which is no class of model.safetensors; it knows 0, 1, 2"),
        (("--cluster", "nobody"), "anes.csv: there is no cluster column nobody; the columns are"),
        (("--cluster", "flat"), "all samples have the same cluster, flat '1'"),
        (("--cluster", "holes"), "column holes: the cluster is missing"),
        (("--cluster", "label"), "--cluster label is the column of the labels"),
        (("--weight", "nothing"), "there is no weight column nothing"),
        (("--confidence", "1"), "--confidence is 1.0; it must be above 0 and below 1"),
        (("--vcov", "v.csv"), "--vcov v.csv: the matrix is written as .npy"),
        (("--csv", "no/folder/t.csv"), "no/folder"),
    ],
)
def test_bad_options_are_refused(refusal, words, expected):
    write_anes()
    rows = Path("anes.csv").read_text().splitlines()
    holes = [f"{row},1,{'' if number == 500 else number}" for number, row in enumerate(rows)]
    Path("anes.csv").write_text("\n".join([rows[0] + ",flat,holes", *holes[1:]]))
    assert expected in refusal("--data", "anes.csv", "--label", "label", *words)


def test_the_labels_that_training_had_are_no_clusters(refusal):
    write_anes()
    assert "--cluster label is the column of the labels" in refusal("--data", "anes.csv", "--cluster", "label", ranks=2)


def test_files_that_are_no_models_or_do_not_fit_are_refused(refusal):
    write_anes()
    write_table("other.csv", size=[1, 2], label=[0, 1])
    assert "the model has 5 features" in refusal("--data", "other.csv", "--label", "label")
    Path("config.toml").write_text("[data")
    assert "config.toml: is no config.toml of a run" in refusal("--data", "anes.csv", "--label", "label")
    Path("config.toml").unlink()
    write_table("strange.csv", **{name: [1, 2] for name in COLUMNS}, label=["0", "dog"])
    assert "the class 'dog' was never seen" in refusal("--data", "strange.csv", "--label", "label")
    Path("model.safetensors").write_bytes(b"no model at all")
    assert "model.safetensors: " in refusal("--data", "anes.csv", "--label", "label")


def test_a_table_that_is_too_large_says_what_it_would_take(refusal):
    names = [f"x{number}" for number in range(3334)]
    np.savez("wide.npz", X=np.random.default_rng(0).integers(0, 9, (9, 3334)), label=np.arange(9) % 4)
    save(names, "0123")
    text = refusal("--data", "wide.npz", "--label", "label")
    assert "10,005 parameters, 3 x 3335; their covariance alone takes 0.8 GB" in text


# --- what is shown ---


@pytest.mark.parametrize("words", [(), ("--odds-ratios",), ("--confidence", "0.999"), ("--no-polish",)])
def test_the_table_fits_80_columns(job, words):
    generator = np.random.default_rng(0)
    names = ["a name that is much too long to be shown in a table of eighty columns", "x" * 79, "é"]
    features = generator.standard_normal((90, 3)) * [1e-9, 1e9, 1]
    write_table("d.csv", **dict(zip(names, features.T, strict=True)), label=generator.integers(0, 3, 90))
    save(names, "012")
    ended = job(1, "summary", ".", "--data", "d.csv", *words, "--label", "label")
    assert ended.status == 0, ended
    assert max(map(len, ended.out.splitlines())) <= 80
    assert "class 2 against 0" in ended.out


def test_the_csv_file_holds_what_json_says(summary):
    write_anes()
    table = summary("--data", "anes.csv", "--csv", "t.csv")
    with open("t.csv", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [{name: float(row[name]) for name in row if name not in ("class", "feature")} for row in rows] == [
        {name: value for name, value in row.items() if name not in ("class", "feature")}
        for row in table["coefficients"]
    ]


def test_sparse_and_headerless_and_archived_samples_give_the_same_table(summary):
    from scipy.sparse import csr_array, save_npz

    write_anes()
    expected = numbers(summary("--data", "anes.csv", "--cluster", "person"), "std_error")
    np.savez("d.npz", X=Anes.features, label=Anes.labels, person=Anes.clusters)
    lines = Path("anes.csv").read_text().splitlines()[1:]
    Path("bare.csv").write_text("\n".join(",".join(line.split(",")[:6] + line.split(",")[7:]) for line in lines))
    save([f"x{number}" for number in range(5)], "0123456")
    for words in (("d.npz", "--cluster", "person"), ("bare.csv", "--label", "5", "--cluster", "6")):
        table = summary("--data", *words)
        np.testing.assert_allclose(numbers(table, "std_error"), expected, rtol=1e-12)
    classical = numbers(summary("--data", "d.npz"), "std_error")
    save_npz("s.npz", csr_array(Anes.features))
    np.save("y.npy", Anes.labels)
    Path("lines.svm").write_text(
        "".join(
            f"{label} " + " ".join(f"{number + 1}:{value!r}" for number, value in enumerate(row) if value) + "\n"
            for label, row in zip(Anes.labels.tolist(), Anes.features.tolist(), strict=True)
        )
    )
    save([f"x{number}" for number in range(5)], "0123456", label=None)
    for words in (("s.npz", "--labels", "y.npy"), ("lines.svm", "--index-base", 1)):
        np.testing.assert_allclose(numbers(summary("--data", *words, label=()), "std_error"), classical, rtol=1e-12)
