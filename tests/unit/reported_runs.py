"""Folders of runs, written by hand, for reports on them."""

import json

import numpy as np
from test_monitor_report import report

from distsoftmax.durable import write_atomically
from distsoftmax.model import Encoding, Model, NumberedNames

DEFAULTS = "[solver]\ntolerance = 0.0001\n"


def evaluation_of(true, predicted, probabilities, classes):
    """What `evaluate --json` prints of samples, counted one by one."""
    n = len(classes)
    confusion = [[0] * n for _ in range(n)]
    for row, column in zip(true, predicted, strict=True):
        confusion[row][column] += 1
    bins = []
    for number in range(10):
        inside = [i for i, p in enumerate(probabilities) if min(int(p * 10), 9) == number]
        right = sum(true[i] == predicted[i] for i in inside)
        sure = sum(probabilities[i] for i in inside)
        mean = (sure / len(inside), right / len(inside)) if inside else (None, None)
        edges = {"from": number / 10, "to": (number + 1) / 10}
        bins.append(edges | {"samples": len(inside), "confidence": mean[0], "accuracy": mean[1]})
    per_class = {}
    for code, name in enumerate(classes):
        hits, guessed, there = confusion[code][code], sum(row[code] for row in confusion), sum(confusion[code])
        per_class[name] = {
            "precision": hits / guessed if guessed else 0.0,
            "recall": hits / there if there else 0.0,
            "f1": 2 * hits / (guessed + there) if guessed + there else 0.0,
            "support": there,
        }
    return {
        "n_samples": len(true),
        "accuracy": sum(t == p for t, p in zip(true, predicted, strict=True)) / len(true),
        "log_loss": 0.123456,
        "classes": per_class,
        "confusion": confusion,
        "reliability": bins,
        "calibration_error": 0.0321,
    }


def result_of(model, evaluation, **changes):
    """A result.json."""
    scores = {"accuracy": evaluation["accuracy"], "log_loss": evaluation["log_loss"]}
    n_classes, n_features = model.coef.shape
    content = {
        "format_version": 1,
        "version": "0.1.0",
        "arithmetic": 1,
        "status": "ended",
        "reason": "the certified gap is below 0.0001 of the objective",
        "converged": True,
        "notes": [],
        "step": 30,
        "n_steps": 30,
        "seconds": 12.5,
        "objective": 0.25,
        "certified_gap": 2e-6,
        "relative_gap": 8e-6,
        "relative_gradient": 1e-5,
        "tolerance": 1e-4,
        "solver": "lbfgs",
        "n_ranks": 2,
        "n_shards": 16,
        "n_training": 4000,
        "n_held_out": evaluation["n_samples"],
        "n_features": n_features,
        "n_classes": n_classes,
        "n_used_features": n_features,
        "n_nonzero": int(np.count_nonzero(model.coef)),
        "sparse": False,
        "dtype": "float32",
        "classes": list(model.classes),
        "training": scores,
        "held_out": scores,
        "evaluation": evaluation,
        "evaluated_on": "held-out",
        "model": "model.safetensors",
        "model_sha256": model.sha256,
        "interim": False,
        "finished": "2026-11-28T01:06:06Z",
    }
    return content | changes


def metrics_of(n_steps, report_every=10):
    """Lines of metrics of a run that comes near 0.25."""
    for step in range(n_steps):
        line = {"step": step, "objective": 0.25 + 2.0 / (step + 1) ** 2, "estimated_gap": 2.0 / (step + 1) ** 2}
        line |= {"certified_gap": 2e-6 if step == n_steps - 1 else None, "seconds": 0.5 if step else None}
        line |= {"held_out_accuracy": 1 - 0.8 / (step + 1), "held_out_log_loss": 0.3 + 1.0 / (step + 1)}
        line |= {"time": f"2026-11-28T01:{step // 60 % 60:02}:{step % 60:02}.000Z"}
        if step % report_every == 0:
            content = report(4.0, 8.0, seconds=10.0, steps=report_every).as_json()
            line["cluster"] = content if step else {**content, "steps": 0}
        if step == n_steps - 1:
            line["model_step"] = step
        yield json.dumps(line) + "\n"


def write_run(
    folder, *, classes=("cat", "dog", "eel"), names=None, n_features=12, config=DEFAULTS, n_steps=31, **changes
):
    """Write the folder of a run that has ended, and return it."""
    generator = np.random.default_rng(7)
    n_classes = len(classes)
    coef = generator.standard_normal((n_classes, n_features))
    numeric = NumberedNames(n_features) if names is None else tuple(names)
    model = Model(coef, np.zeros(n_classes), tuple(classes), Encoding(numeric=numeric), 1)
    true = generator.integers(0, n_classes, 60).tolist()
    guesses = [code if generator.random() < 0.8 else int(generator.integers(0, n_classes)) for code in true]
    evaluation = evaluation_of(true, guesses, generator.uniform(0.3, 1.0, 60).tolist(), classes)
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(config)
    (folder / "metrics.jsonl").write_text("".join(metrics_of(n_steps)))
    write_atomically(folder / "model.safetensors", *model.file_content())
    (folder / "result.json").write_text(json.dumps(result_of(model, evaluation, **changes)))
    return folder


def write_path(folder, values=(0.1, 0.01, 0.001), chosen=1):
    """Write the folder of a path, and return it."""
    legs = []
    for number, l2 in enumerate(values):
        leg = write_run(folder / f"path/{number + 1:02}-l2-{l2:.0e}", config=f"[objective]\nl2 = {l2}\n")
        loss = 0.5 + abs(number - (1 if chosen is None else chosen))
        legs.append(
            {"l2": l2, "folder": f"path/{leg.name}", "objective": 0.5, "certified_gap": 1e-6, "steps": 5 + number}
        )
        legs[-1] |= {"seconds": 1.5, "nonzero_coefficients": 30 + number, "training_accuracy": 0.9}
        legs[-1] |= {"training_log_loss": loss - 0.1, "held_out_accuracy": 0.875, "held_out_log_loss": loss}
    folder_of = None if chosen is None else legs[chosen]["folder"].removeprefix("path/")
    content = {"options": {}, "l2": list(values), "runs": legs, "chosen": folder_of, "chosen_by": "held-out log loss"}
    (folder / "path.json").write_text(json.dumps(content))
    (folder / "config.toml").write_text('[objective]\nl2-path = "1e-1:1e-3:3"\n')
    return folder
