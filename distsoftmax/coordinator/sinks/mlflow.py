"""--mlflow: the run as one of MLflow: options as params, metrics by step, the model's file as an artifact.

MLFLOW_TRACKING_URI says where; without it, it is MLflow's own default (mlflow.db in the current folder) or, where only
mlflow-skinny is installed, the folder mlruns there. MLFLOW_EXPERIMENT_NAME and MLFLOW_EXPERIMENT_ID name the
experiment. mlflow.json in the run's folder keeps the store and the number of the MLflow run: a resumed run goes on with
it, from whatever folder, unless MLFLOW_TRACKING_URI names another store.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distsoftmax.coordinator.sinks.sink import Line, Sink, as_text, numbers_in, seconds_of
from distsoftmax.durable import write_atomically

SETTINGS = {  # what a user's environment may say otherwise
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",
    # so that a call to a server that does not answer ends
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
MOST_METRICS, MOST_PARAMS = 1000, 100  # of a call
LONGEST_VALUE = 500  # characters of a param
EVERY_LINE = "gradient_norm"  # a metric that every line has: its last step is the last that was told
STATUSES = {"ended": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
TAGS = ("reason", "converged", "solver", "model_sha256", "interim")  # of a result
ARTIFACTS = ("model.safetensors", "result.json", "config.toml")


class Mlflow(Sink):
    """See `Sink`. Talks to the tracking store by MLflow's client."""

    def __init__(self, folder: Path) -> None:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        self._folder = folder
        self._uri = os.environ.get("MLFLOW_TRACKING_URI") or self._kept().get("tracking_uri")
        if not self._uri and importlib.util.find_spec("sqlalchemy") is None:
            self._uri = Path("mlruns").absolute().as_uri()
        self.where = self._uri or "the local store of MLflow"
        self._client: Any = None
        self._run = ""
        self._last_step: int | None = -1  # that was told; None where a call has failed on the way

    def begin(self, options: Mapping[str, object], history: Iterable[Line]) -> None:
        """See `Sink.begin`."""
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient(tracking_uri=self._uri)
        run = self._resumed() or self._created()
        self._run = run.info.run_id
        params = [
            Param(name, as_text(value)[:LONGEST_VALUE])
            for name, value in options.items()
            if name not in run.data.params  # which are for good
        ]
        for start in range(0, len(params), MOST_PARAMS):
            self._client.log_batch(self._run, params=params[start : start + MOST_PARAMS])
        self._last_step = None
        self.write(list(history))

    def write(self, lines: Sequence[Line]) -> None:
        """See `Sink.write`. A step that was told before is left out: its values are the same."""
        if self._last_step is None:
            told = self._client.get_metric_history(self._run, EVERY_LINE)
            self._last_step = max((metric.step for metric in told), default=-1)
        batch: list[Any] = []
        for line in lines:
            if line["step"] <= self._last_step:
                continue
            metrics = _metrics(line["step"], line, seconds_of(line))
            if len(batch) + len(metrics) > MOST_METRICS:
                self._log(batch)
                batch = []
            batch += metrics
        self._log(batch)

    def end(self, result: Mapping[str, Any]) -> None:
        """See `Sink.end`."""
        from mlflow.entities import RunTag

        if result["status"] != "failed":
            tags = [RunTag(name, str(result[name])) for name in TAGS if name in result]
            final = {f"final_{name}": value for name, value in numbers_in(result)}
            metrics = _metrics(result.get("n_steps", 0), final, seconds_of({}))
            self._client.log_batch(self._run, metrics=metrics, tags=tags)
            for name in ARTIFACTS:
                if (self._folder / name).is_file():
                    self._client.log_artifact(self._run, str(self._folder / name))
        self._client.set_terminated(self._run, STATUSES[result["status"]])

    def _resumed(self) -> Any:
        """Return the MLflow run that earlier processes of this run have written to; None where there is none."""
        from mlflow.exceptions import MlflowException

        kept = self._kept()
        try:
            run = self._client.get_run(kept["run_id"]) if kept["tracking_uri"] == self._uri else None
        except LookupError:
            return None
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None  # it was deleted
        if run is not None:
            self._client.update_run(run.info.run_id, status="RUNNING")
        return run

    def _kept(self) -> dict[str, Any]:
        """Return what mlflow.json says; nothing where it is not there, or damaged."""
        try:
            kept = json.loads((self._folder / "mlflow.json").read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return kept if isinstance(kept, dict) else {}

    def _created(self) -> Any:
        number, name = os.environ.get("MLFLOW_EXPERIMENT_ID"), os.environ.get("MLFLOW_EXPERIMENT_NAME") or "Default"
        if not number:
            experiment = self._client.get_experiment_by_name(name)
            number = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        tags = {"mlflow.source.name": "distsoftmax", "folder": str(self._folder.absolute())}
        run = self._client.create_run(number, run_name=self._folder.name, tags=tags)
        content = {"run_id": run.info.run_id, "tracking_uri": self._uri}
        write_atomically(self._folder / "mlflow.json", json.dumps(content).encode() + b"\n")
        return run

    def _log(self, batch: Sequence[Any]) -> None:
        if batch:
            last, self._last_step = batch[-1].step, None
            self._client.log_batch(self._run, metrics=batch)
            self._last_step = last


def _metrics(step: int, values: Mapping[str, Any], seconds: float) -> list[Any]:
    from mlflow.entities import Metric

    return [Metric(name, value, int(1000 * seconds), step) for name, value in numbers_in(values)]
