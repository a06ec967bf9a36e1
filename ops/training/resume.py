"""How a run is resumed: which checkpoint, whether it fits, and what it restores."""

from pathlib import Path
from typing import NamedTuple

from ops.checkpoints.torch_file import read_checkpoint
from ops.data.preflight import check_class_names
from ops.training.optim import load_optimizer_state
from ops.training.run_dir import LAST, latest_checkpoint
from ops.training.run_metadata import current_options
from ops.utils.errors import UserError
from ops.utils.text import counted, printable

# What a checkpoint must contain to be resumed, and of which types.
_STATE = {
    "model": dict,
    "recipe": dict,
    "state_dict": dict,
    "optimizer": dict,
    "epoch": int,
    "best": int | float,
    "since_best": int | None,
    "step_in_epoch": int | None,
    "meters": list | None,
    "class_names": list | None,
}
# Parts of the recipe that no flag of this name sets, and that must be the same in a resumed run.
_DERIVED_OPTIONS = ("total_batch", "dense_stride")


class ResumeState(NamedTuple):
    """Where a run starts or resumes.

    Attributes:
        epoch: number of epochs that are done.
        step: number of steps of the next epoch that are done.
        meters: state of the meters of each process within that epoch, or None.
        best: best value of the first metric so far, percent; negative before the first validation.
        since_best: number of validations after the best one.
    """

    epoch: int = 0
    step: int = 0
    meters: list[dict] | None = None
    best: float = -1.0
    since_best: int = 0

    def describe(self, steps):
        """Where the run resumes, such as ``in epoch 1 after step 3 of 7 (not validated yet)``.

        Args:
            steps: number of steps of an epoch.
        """
        done = f"after epoch {self.epoch}"
        if self.step:
            done = f"in epoch {self.epoch + 1} after step {self.step} of {steps}"
        if self.best < 0:
            return f"{done} (not validated yet)"
        return f"{done}, best {self.best:.2f}%"


def find_checkpoint(resume, output_dir, world):
    """The checkpoint that ``--resume`` names, the same on every process.

    Args:
        resume: "auto", a file, a folder, or None.
        output_dir: folder of the run.
        world: of ``ops.distributed``.

    Returns:
        (path or None, a line for each damaged checkpoint that was passed over).

    Raises:
        UserError: a file or folder that does not exist, a folder without checkpoints (except for
            "auto", which then starts anew), or one whose checkpoints are all damaged.
    """
    if not resume:
        return None, []
    is_auto = resume == "auto"
    source = Path(output_dir if is_auto else resume)
    if not is_auto and not source.is_dir():
        if not source.exists():
            raise UserError(f"--resume {source}: no such checkpoint file")
        return source, []
    found = latest_checkpoint(source) if world.is_main else None
    checkpoint, damaged = world.from_main(found)
    if checkpoint is None and not is_auto:
        raise UserError(
            f"--resume {source}: a folder without {LAST}; give a checkpoint or a run's folder"
        )
    return checkpoint, damaged


class TrainingCheckpoint:
    """A checkpoint that ``main.py`` wrote.

    Args:
        path: the file.

    Raises:
        UserError: the file is not a training checkpoint.
    """

    def __init__(self, path):
        self.path = path
        self.content = read_checkpoint(path)
        is_training = isinstance(self.content, dict) and all(
            isinstance(self.content.get(key), kind) for key, kind in _STATE.items()
        )
        if not is_training:
            raise UserError(f"--resume {path}: contains no training state (only weights?)")

    @property
    def recipe(self):
        """The options of the run that wrote it, by name."""
        return self.content["recipe"]

    @property
    def tracker_ids(self):
        """Name of a tracker of ``--log_to`` -> id of the run in it."""
        saved = self.content.get("trackers")
        if not isinstance(saved, dict):
            return {}
        return {name: run_id for name, run_id in saved.items() if isinstance(run_id, str)}

    def check_model(self, spec, class_names, names_file):
        """Raise UserError unless the checkpoint is of this network and these classes.

        Args:
            spec: specification of the network.
            class_names: those of this run's dataset in label order, or None.
            names_file: the file that they are from, for the message.
        """
        self._check_same("model", self.content["model"], spec)
        saved_names = self.content.get("class_names")
        check_class_names(saved_names, class_names, f"--resume {self.path}", names_file)

    def check_recipe(self, recipe, fixed_options, processes):
        """Raise UserError unless a run with these options continues that of the checkpoint.

        Args:
            recipe: the options of this run, by name.
            fixed_options: names of the options that must be the same in both runs.
            processes: number of processes of this run, which must be the same within an epoch.
        """
        fixed = {*fixed_options, *_DERIVED_OPTIONS}
        if "total_batch" in self.recipe:
            # The same total batch may be split in another way: 4 processes x 2 videos x 2
            # accumulated are 8 x 2 x 1 or, at the start of an epoch, 4 x 4 x 1.
            fixed.discard("accumulate")
            if not self.content.get("step_in_epoch"):
                fixed.discard("batch_size")
        new = {name: value for name, value in recipe.items() if name in fixed}
        self._check_same("recipe", current_options(self.recipe, recipe.get("flip")), new)
        meters = self.content.get("meters")
        if meters and len(meters) != processes:
            saved_by = counted(len(meters), "process", "processes")
            raise UserError(
                f"--resume {self.path}: was saved within an epoch by {saved_by}, not {processes}; "
                f"start {len(meters)} again until the epoch ends"
            )

    def _check_same(self, what, old, new):
        changes = [
            f"{key} {printable(old[key])} -> {new[key]}"
            for key in new
            if key in old and not _is_same(old[key], new[key])
        ]
        if changes:
            raise UserError(
                f"--resume {self.path}: was trained with another {what} ({', '.join(changes)}); "
                f"give the same flags, or another --output_dir to start anew"
            )

    def restore_weights(self, net, ema=None):
        """Fill the network and the average of its weights, in place.

        Args:
            net: a TSN.
            ema: of ``ops.training.ema``, or None. Without it the network gets the
                averages, if the checkpoint has them.

        Raises:
            UserError: the weights are not those of this network.
        """
        averages = self.content["state_dict"]
        trained = self.content.get("trained_state_dict", averages)

        def load():
            net.load_state_dict(trained if ema else averages)
            if ema:
                ema.module.load_state_dict(averages)

        self._restore(load)

    def restore_optimizer(self, optimizer, scaler=None):
        """Fill the optimizer and the gradient scaler, if there is one, in place.

        Raises:
            UserError: the state is not that of such an optimizer.
        """

        def load():
            load_optimizer_state(optimizer, self.content["optimizer"])
            if scaler and "scaler" in self.content:
                scaler.load_state_dict(self.content["scaler"])

        self._restore(load)

    def _restore(self, load):
        try:
            load()
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise UserError(
                f"--resume {self.path}: its training state is not one of this model "
                f"({printable(str(error))}); give another file"
            ) from None

    def state(self):
        """Where the run resumes, as a :class:`ResumeState`."""
        return ResumeState(
            self.content["epoch"],
            self.content.get("step_in_epoch", 0),
            self.content.get("meters"),
            self.content["best"],
            self.content.get("since_best") or 0,
        )

    def release(self):
        """Forget the tensors, which are not needed any more, to free their memory."""
        for key in ("state_dict", "trained_state_dict", "optimizer"):
            self.content.pop(key, None)


def _is_same(old, new):
    """Whether two options are equal, whatever the type of the old one."""
    if isinstance(old, int | float) and isinstance(new, int | float):
        return old == new
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return all(map(_is_same, old, new))  # epochs 30 and 30.0 of --lr_steps
    return repr(old) == repr(new)
