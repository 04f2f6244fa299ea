"""Where a run's metrics go beside `metrics.jsonl`: TensorBoard, and on request Weights & Biases and MLflow.

Nothing asks for the network unless the user's own environment variables say so. W&B writes beside the run
until `WANDB_MODE=online`, and `wandb sync` uploads it later. MLflow writes a database into the run's
directory unless `MLFLOW_TRACKING_URI` names another place.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

PROJECT = "endmark"
"""The project of W&B, unless `WANDB_PROJECT` says another one, and the experiment of MLflow."""


@runtime_checkable
class Tracker(Protocol):
    """Takes metrics as they are logged. id: by which a run goes on after a stop, None if none is needed.

    What was logged between the last saved state and a kill is logged again when the run goes on.
    """

    id: str | None

    def log(self, env_steps: int, metrics: Mapping[str, float]) -> None:
        """Metrics at this many environment steps."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


class TensorBoard:
    """Event files in the run's directory. What an earlier try logged after `env_steps` is hidden."""

    id: str | None = None

    def __init__(self, directory: Path, env_steps: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(directory), purge_step=env_steps + 1)

    def log(self, env_steps: int, metrics: Mapping[str, float]) -> None:
        """A scalar for each metric."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, env_steps)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class WandB:
    """A run of Weights & Biases, offline unless `WANDB_MODE` says otherwise. Its files are in `wandb/`."""

    def __init__(self, directory: Path, config: Mapping[str, Any], id: str | None) -> None:
        import wandb

        mode: Any = os.environ.get("WANDB_MODE", "offline")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=id,
            name=directory.name,
            dir=str(directory),
            config=dict(config),
            resume="allow",
            mode=mode,
            settings=wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True),
        )
        self.id: str | None = self._run.id
        self._run.define_metric("*", step_metric="env_steps")

    def log(self, env_steps: int, metrics: Mapping[str, float]) -> None:
        """One row, over `env_steps`."""
        self._run.log({"env_steps": env_steps, **metrics})

    def close(self) -> None:
        """Write what is left."""
        self._run.finish()


class MLflow:
    """A run of MLflow, in `mlflow.db` of the run's directory unless `MLFLOW_TRACKING_URI` says otherwise."""

    def __init__(self, directory: Path, config: Mapping[str, Any], id: str | None) -> None:
        import logging

        from mlflow.entities import Metric
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it reports each table that it creates
        logging.getLogger("alembic").setLevel(logging.WARNING)
        here = f"sqlite:///{(directory / 'mlflow.db').resolve()}"
        self._client = MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", here))
        self._metric = Metric
        if id is None:
            found = self._client.get_experiment_by_name(PROJECT)
            experiment = found.experiment_id if found else self._client.create_experiment(PROJECT)
            id = self._client.create_run(experiment, run_name=directory.name).info.run_id
            for name, value in flat(config):
                self._client.log_param(id, name, str(value)[:500])
        self.id: str | None = id
        self._run: str = id

    def log(self, env_steps: int, metrics: Mapping[str, float]) -> None:
        """A value of each metric, with `env_steps` as its step."""
        now = int(time.time() * 1000)
        self._client.log_batch(
            self._run, [self._metric(n, float(v), now, env_steps) for n, v in metrics.items()]
        )

    def close(self) -> None:
        """Mark the run as ended."""
        self._client.set_terminated(self._run)


TRACKERS: Mapping[str, Callable[[Path, Mapping[str, Any], str | None], Tracker]] = {
    "wandb": WandB,
    "mlflow": MLflow,
}
"""From a name in `--log-to` to what makes the tracker of a directory, a configuration and the id it had."""


def check_installed(names: Iterable[str]) -> None:
    """ValueError for a tracker that does not exist or is not installed."""
    for name in names:
        if name not in TRACKERS:
            raise ValueError(f"log_to: given '{name}', want some of {', '.join(TRACKERS)}")
        if not importlib.util.find_spec(name):
            raise ValueError(f'log_to: {name} is not installed: pip install "endmark[{name}]"')


def trackers(
    directory: Path,
    config: Mapping[str, Any],
    env_steps: int,
    names: Iterable[str],
    ids: Mapping[str, str | None],
) -> dict[str, Tracker]:
    """The trackers of these names, and TensorBoard where it is installed. ids: those that they had before."""
    made: dict[str, Tracker] = {}
    if importlib.util.find_spec("tensorboard"):
        made["tensorboard"] = TensorBoard(directory, env_steps)
    return made | {name: TRACKERS[name](directory, config, ids.get(name)) for name in names}


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """The settings with dots between the names of nested ones."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
