"""Experiment trackers of ``--log_to``, beside TensorBoard: optional packages, imported when used.

A new one is a class with the methods of ``Tracker`` and an entry of ``TRACKERS``. Where a package
writes, and whether it works offline, is set by its own environment variables (docs/training.md).
"""

import os
import secrets
import time
from functools import partial

from ops.utils.text import printable

MLFLOW_BATCH = 100  # the most parameters that MLflow takes at once


class Tracker:
    """One run in a tracker. ``run_id`` finds it again when the training is resumed.

    Here is what packages have in common whose runs have ``log``, as wandb's.

    Args:
        project: name that the runs of a dataset have in common.
        name: name of the run.
        config: plain values, the options of the run.
        run_id: ``run_id`` of the run that is continued, None for a new one.
    """

    run = make_image = None

    def log_scalars(self, step, values):
        """Log numbers, by name, after a number of optimizer steps."""
        self.run.log(values, step=step)

    def log_image(self, step, name, image):
        """Log a PIL image."""
        self.run.log({name: self.make_image(image)}, step=step)


class WandbTracker(Tracker):
    """Weights & Biases; ``WANDB_MODE=offline`` writes to ./wandb, for ``wandb sync``."""

    def __init__(self, project, name, config, run_id):
        import wandb

        self.make_image = wandb.Image
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", project),
            name=name,
            id=run_id,
            resume="allow",
            config=config,
            settings=wandb.Settings(console="off", quiet=True),  # log.txt has the lines
        )
        self.run_id = self.run.id

    def close(self, failed):
        self.run.finish(exit_code=int(failed))


class TrackioTracker(Tracker):
    """Trackio, which is local: ``trackio show``; the name of a run is its id."""

    def __init__(self, project, name, config, run_id):
        import trackio

        self.make_image = trackio.Image
        self._finish = trackio.finish
        self.run_id = run_id or f"{name}-{secrets.token_hex(3)}"
        self.run = trackio.init(
            project=project, name=self.run_id, config=config, resume="allow", embed=False
        )

    def close(self, failed):
        self._finish()


class MlflowTracker(Tracker):
    """MLflow; without ``MLFLOW_TRACKING_URI`` it writes to ./mlflow.db and ./mlruns."""

    def __init__(self, project, name, config, run_id):
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient()
        if run_id is not None:
            self._client.update_run(run_id, status="RUNNING")
            self.run_id = run_id
            return
        project = os.environ.get("MLFLOW_EXPERIMENT_NAME", project)
        experiment = self._client.get_experiment_by_name(project)
        number = experiment.experiment_id if experiment else self._client.create_experiment(project)
        self.run_id = self._client.create_run(number, run_name=name).info.run_id
        params = [Param(key, str(value)) for key, value in config.items()]
        for first in range(0, len(params), MLFLOW_BATCH):
            self._client.log_batch(self.run_id, params=params[first : first + MLFLOW_BATCH])

    def log_scalars(self, step, values):
        from mlflow.entities import Metric

        now = round(1000 * time.time())
        metrics = [Metric(key, value, now, step) for key, value in values.items()]
        self._client.log_batch(self.run_id, metrics=metrics)

    def log_image(self, step, name, image):
        self._client.log_image(self.run_id, image, key=name.replace("/", "_"), step=step)

    def close(self, failed):
        self._client.set_terminated(self.run_id, status="FAILED" if failed else "FINISHED")


TRACKERS = {"wandb": WandbTracker, "trackio": TrackioTracker, "mlflow": MlflowTracker}


class Trackers:
    """The trackers of one run. One that fails is left out from then on, with a warning.

    Args:
        names: keys of ``TRACKERS``.
        project: name that the runs of a dataset have in common.
        name: name of the run.
        config: plain values, the options of the run.
        run_ids: key of ``TRACKERS`` -> id of the run that is continued.
        warn: function that is called with the line of a warning.
    """

    def __init__(self, names, project, name, config, run_ids, warn):
        self._warn = warn
        self._trackers = {}
        self._run_ids = dict(run_ids)
        for key in names:
            self._try(key, partial(self._start, key, project, name, config))

    @property
    def run_ids(self):
        """Key of ``TRACKERS`` -> id of the run, for the checkpoints."""
        return dict(self._run_ids)

    def log_scalars(self, step, values):
        """Log numbers, by name, after a number of optimizer steps."""
        self._all(lambda tracker: tracker.log_scalars(step, values))

    def log_image(self, step, name, image):
        """Log a PIL image after a number of optimizer steps."""
        self._all(lambda tracker: tracker.log_image(step, name, image))

    def close(self, failed):
        """End the runs; ``failed``: an exception ends the training."""
        self._all(lambda tracker: tracker.close(failed))

    def _start(self, key, *run):
        tracker = TRACKERS[key](*run, self._run_ids.get(key))
        self._trackers[key] = tracker
        self._run_ids[key] = tracker.run_id

    def _all(self, action):
        for key, tracker in list(self._trackers.items()):
            self._try(key, partial(action, tracker))

    def _try(self, key, action):
        try:
            action()
        except Exception as error:  # whatever a package raises, the training is worth more
            self._trackers.pop(key, None)
            reason = f"{type(error).__name__}: {printable(str(error))}"
            self._warn(f"warning: --log_to {key} failed ({reason}); training continues without it")
