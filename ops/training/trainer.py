"""The training loop: epochs, steps, validation, checkpoints."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from signal import SIGINT, Signals

import numpy as np
import torch
from tqdm import tqdm

from ops.checkpoints import save_checkpoint
from ops.data.loader import loader_errors
from ops.distributed import World
from ops.training.ema import WeightAverage
from ops.training.logger import RunLog
from ops.training.meters import Meters, advice
from ops.training.optim import set_learning_rate
from ops.training.pictures import RunPictures
from ops.training.precise_bn import estimate_statistics
from ops.training.run_dir import SaveInterval, rotate_checkpoints
from ops.training.schedule import Schedule
from ops.training.step import TrainStep
from ops.training.sync_batchnorm import SyncNorm, each_alone
from ops.training.validation import validate, validation_line
from ops.utils.compiled import CompiledNetwork, run_eagerly
from ops.utils.errors import INTERRUPTED_STATUS, STOPPED_STATUS, Stopped
from ops.utils.signals import StopRequest
from ops.utils.text import counted

NAMED_FAILURES = 10  # videos of an epoch that the log names


@dataclass
class Trainer:
    """Trains a network up to a number of epochs; its checkpoints are whole at every moment.

    Attributes:
        net: the TSN.
        step: a ``TrainStep``, whose model is net or its wrapper.
        train_loader: batches of a ``TrainDataset``.
        val_loader: of a ``TestDataset``.
        world: of ``ops.distributed``.
        log: a ``RunLog``.
        folder: output directory, for ``last.pth``, the ones before it, and ``best.pth``.
        schedule: a ``Schedule``.
        validation_criterion: loss of the validation.
        recipe: options of the run, for the checkpoints.
        epochs: number of epochs.
        batch_size: videos per batch of the validation.
        save_every: a ``SaveInterval`` within an epoch.
        class_names: in label order, or None, for the checkpoints.
        ema: an average of the weights, or None. Its weights are validated and saved as the model.
        compile: whether the validation compiles the network, as the model of step is.
        eval_freq: epochs between two validations.
        patience: validations in a row without a new best value after which the training ends; 0:
            it does not end before the last epoch.
        precise_bn: batches of each process that the statistics of BatchNorms are estimated from
            before a validation; 0 keeps the running ones.
        keep: number of checkpoints.
        seed: of dropout and mixtures. A step depends on (seed, step, rank), not on earlier steps.
        print_freq: steps between two lines of the log.
        pictures: a ``RunPictures``, or None.
        best: best value of the first metric so far, percent.
        since_best: number of validations after the best one.
    """

    net: torch.nn.Module
    step: TrainStep
    train_loader: torch.utils.data.DataLoader
    val_loader: torch.utils.data.DataLoader
    world: World
    log: RunLog
    folder: Path
    schedule: Schedule
    validation_criterion: Callable
    recipe: dict
    epochs: int
    batch_size: int
    save_every: SaveInterval
    class_names: list[str] | None = None
    ema: WeightAverage | None = None
    compile: bool = False
    eval_freq: int = 1
    patience: int = 0
    precise_bn: int = 0
    keep: int = 2
    seed: int = 0
    print_freq: int = 20
    pictures: RunPictures | None = None
    best: float = -1.0
    since_best: int = 0

    @property
    def steps(self):
        """Number of optimizer steps of an epoch."""
        return len(self.train_loader) // self.step.accumulate

    @property
    def saved_net(self):
        """The network that is validated and saved: net, or the average of its weights."""
        if self.ema:
            return self.ema.module
        return self.net

    @property
    def frames(self):
        """Number of frames of a clip."""
        dataset = self.train_loader.dataset
        return dataset.num_segments * dataset.frames_per_segment

    def fit(self, start):
        """Train.

        Args:
            start: a ``ResumeState``, where the run starts or resumes.

        Returns:
            the best value of the first metric, percent.

        Raises:
            UserError: a loss or a gradient is not finite.
            Stopped: after a signal to any process, with the state saved.
        """
        self.best = start.best
        self.since_best = start.since_best
        self._saved_at = time.perf_counter()
        self._has_sync_norms = any(isinstance(m, SyncNorm) for m in self.step.model.modules())
        self._validated = self.saved_net
        if self.compile:
            self._validated = CompiledNetwork(self.saved_net, self.batch_size)
        if self.pictures and not start.epoch and not start.step:
            self.step.inspect = self.pictures.log_first_batch
        began = time.perf_counter()
        with StopRequest() as self._request, self.train_loader, self.val_loader:
            for epoch in range(start.epoch, self.epochs):
                if self._has_converged():
                    self.log.info(
                        f"ended before epoch {epoch + 1}: no better validation in "
                        f"{self.since_best} (--patience {self.patience})"
                    )
                    break
                first_step = start.step if epoch == start.epoch else 0
                state = None
                if first_step and start.meters:
                    state = start.meters[self.world.rank]
                values, is_best = self._run_epoch(epoch, first_step, state)
                self._log_remaining_time(
                    time.perf_counter() - began, epoch + 1 - start.epoch, epoch
                )
                # Last, last: a run that is killed between the two does the epoch again, and finds
                # it as good as before.
                if is_best:
                    self._save(epoch + 1, name="best", metrics=values)
                self._save(epoch + 1, metrics=values)
                (number,) = self.world.max(self._request.number)
                if number and epoch + 1 < self.epochs:
                    raise self._stopped(number, epoch, self.steps)
        return self.best

    def _has_converged(self):
        """Collective, with patience: whether process 0 has waited long enough for a better value.

        The metrics of processes on different machines may be rounded differently.
        """
        if not self.patience:
            return False
        return self.world.from_main(self.since_best >= self.patience)

    def _run_epoch(self, epoch, first_step, meters_state):
        """Train one epoch and validate. Returns the values for the log, and whether it is best."""
        meters = Meters(self.world.device, meters_state)
        trained = self._train(epoch, first_step, meters)
        values = {f"train_{key}": value for key, value in trained.items()}
        is_best = False
        if (epoch + 1) % self.eval_freq == 0 or epoch + 1 == self.epochs:
            result = self._validate(epoch, meters)
            value = next(iter(result.values()))
            is_best = value > self.best
            self.best = max(self.best, value)
            self.since_best += 1
            if is_best:
                self.since_best = 0
            values.update((f"val_{key}", value) for key, value in result.items())
            line = validation_line(result, self.val_loader.dataset)
            self.log.info(f"{line} (best {self.best:.2f}%)")
        self._log_values(epoch, values)
        return values, is_best

    def _train(self, epoch, first_step, meters):
        """One pass over the training videos, from a step on. Returns ``Meters.result``."""
        self.step.model.train()
        videos_before = first_step * self.step.accumulate * self.train_loader.batch_size
        self.train_loader.sampler.set_epoch(epoch, videos_before)
        with loader_errors(self.train_loader):
            batches = iter(self.train_loader)
            bar = tqdm(
                range(first_step, self.steps),
                desc=f"epoch {epoch + 1}",
                unit="step",
                initial=first_step,
                total=self.steps,
                disable=None if self.world.is_main else True,
                leave=False,
            )
            for index in bar:
                norm = self._train_step(batches, epoch, index, meters)
                if (index + 1) % self.print_freq == 0 or index + 1 == self.steps:
                    self._check_numbers(epoch, index, meters)
                    self._log_step(epoch, index, meters, norm, bar)
                self.on_step_end(epoch, index + 1, meters)
            result = meters.result(self.frames, self.world)
            self._log_failures(meters)
        self._log_trained(epoch, result)
        return result

    def _train_step(self, batches, epoch, index, meters):
        """One step of the optimizer. Returns the norm of the gradient."""
        step = epoch * self.steps + index
        accumulate = self.step.accumulate
        set_learning_rate(self.step.optimizer, self.schedule.rate(step))
        self.step.optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=self.world.device)
        places = []
        for part in range(accumulate):
            meters.watch.lap()
            batch = next(batches)
            meters.watch.lap("data")
            meters.failures += batch.failures
            places += batch.indices.tolist()
            self._seed_batch(step * accumulate + part)
            is_last = part == accumulate - 1
            without_video = self._is_anyone_without_video(batch)
            with (
                self._gradient_exchange(is_last),
                each_alone(self.step.model, without_video),
                run_eagerly(self.step.model, without_video),
            ):
                loss = loss + self.step.forward_backward(batch, meters)
        norm = self.step.update()
        if self.ema:
            self.ema.update(self.net)
        meters.watch.lap("optimiser")
        meters.add_step(index, loss, norm, places)
        return norm

    def _seed_batch(self, number):
        """Seed dropout and mixtures of a batch by its number over the whole run."""
        sequence = np.random.SeedSequence((self.seed, number, self.world.rank))
        torch.manual_seed(int(sequence.generate_state(1)[0]))

    def _gradient_exchange(self, is_last):
        """Context of a batch: DDP exchanges gradients in the last batch of a step only."""
        if is_last or not hasattr(self.step.model, "no_sync"):
            return contextlib.nullcontext()
        return self.step.model.no_sync()

    def _is_anyone_without_video(self, batch):
        """Whether some process has a batch without a decoded video.

        It has no statistics for the synchronized BatchNorms of the others, which must not wait for
        it.
        """
        if not self._has_sync_norms:
            return False
        return self.world.any(batch.clips is None)

    def on_step_end(self, epoch, step, meters):
        """Save if it is due, and stop if a process was asked to.

        Args:
            epoch: number of the epoch, from 0.
            step: number of steps of the epoch that are done.
            meters: of the epoch.
        """
        seconds = time.perf_counter() - self._saved_at
        due = self.world.is_main and self.save_every.is_due(step, seconds)
        number, due = self.world.max(self._request.number, int(due))
        # The end of an epoch is saved anyway, after its validation.
        if number or (due and step < self.steps):
            self._check_numbers(epoch, step - 1, meters)
            self._save(epoch, step, meters)
        if number:
            raise self._stopped(number, epoch, step)

    def _check_numbers(self, epoch, index, meters):
        """Raise UserError if a loss or a gradient up to this step was not finite."""
        videos = self.train_loader.dataset.video_list
        lr = self.schedule.rate(epoch * self.steps + index)
        may_skip = self.step.scaler is not None
        meters.check(videos, epoch, self.steps, lr, may_skip=may_skip)

    def _validate(self, epoch, meters):
        """Validate the network, or the average of its weights.

        Raises:
            Stopped: after a signal; the validation is done when the run is resumed.
        """
        result = None
        if not self.precise_bn or self._estimate_statistics(epoch):
            result = validate(
                self._validated,
                self.val_loader,
                self.world,
                self.validation_criterion,
                amp=self.step.amp,
                batch_size=self.batch_size,
                stop=lambda: self._request.number,
                on_confusion=self._log_confusion(epoch),
            )
        if result is None:
            (number,) = self.world.max(self._request.number)
            self._save(epoch, self.steps, meters)
            raise self._stopped(number, epoch, self.steps)
        return result

    def _estimate_statistics(self, epoch):
        """Collective: give the network to be validated precise BatchNorm statistics.

        They are those of the first batches of the epoch, as clips that it has been trained on.

        Returns:
            False after a signal.
        """
        began = time.perf_counter()
        videos = self.precise_bn * self.train_loader.batch_size
        self.train_loader.sampler.set_epoch(epoch, stop=videos)
        with loader_errors(self.train_loader):
            is_done = estimate_statistics(
                self.saved_net,
                self.train_loader,
                self.world,
                amp=self.step.amp,
                stop=lambda: self._request.number,
            )
        if is_done:
            batches = counted(min(self.precise_bn, len(self.train_loader)), "batch", "batches")
            seconds = time.perf_counter() - began
            self.log.info(f"BatchNorm statistics of {batches} per process, {seconds:.0f} s")
        return is_done

    def _log_confusion(self, epoch):
        """A function that logs the confusion matrix after an epoch, None where nothing is drawn."""
        if self.pictures is None:
            return None
        return partial(self.pictures.log_confusion, (epoch + 1) * self.steps)

    def _stopped(self, number, epoch, step):
        """The exception that ends the run after a signal."""
        self._request.is_done = True
        if number == SIGINT:
            cause, status = "interrupted", INTERRUPTED_STATUS
        else:
            cause, status = f"stopped by {Signals(number).name}", STOPPED_STATUS
        return Stopped(
            f"{cause} in epoch {epoch + 1}; continue with --resume auto (saved after step {step} "
            f"of {self.steps} in {self.folder}/last.pth)",
            status,
        )

    def _save(self, epoch, step=0, meters=None, *, name="last", **facts):
        """Collective: save the state.

        Args:
            epoch: number of epochs that are done.
            step: number of steps of the next epoch that are done.
            meters: of that epoch.
            name: "last", before which the older ones are rotated, or "best".
            **facts: further entries of the checkpoint.
        """
        states = self.world.gather(meters.state() if meters else None)
        if self.world.is_main:
            content = {
                "class_names": self.class_names,
                "recipe": self.recipe,
                "epoch": epoch,
                "step": epoch * self.steps + step,
                "best": self.best,
                "since_best": self.since_best,
                "step_in_epoch": step,
                "meters": states if meters else None,
                "trackers": self.log.run_ids,
                **facts,
            }
            if self.ema:
                weights = self.net.state_dict()
                content["trained_state_dict"] = {
                    key: value.detach().contiguous() for key, value in weights.items()
                }
            rotate = partial(rotate_checkpoints, self.folder, self.keep)
            save_checkpoint(
                Path(self.folder) / f"{name}.pth",
                self.saved_net,
                optimizer=self.step.optimizer,
                scaler=self.step.scaler,
                before=rotate if name == "last" else None,
                **content,
            )
        self._saved_at = time.perf_counter()
        self.world.barrier()  # no process ends the run while the file is being written

    def _log_step(self, epoch, index, meters, norm, bar):
        lr = self.schedule.rate(epoch * self.steps + index)
        accuracy = meters.accuracy_text()
        speed = meters.speed_text(self.frames, self.world.size)
        bar.set_postfix_str(f"{accuracy} lr {lr:.2g} data {meters.shares()['data']:.0%}")
        left = meters.seconds / (index + 1) * (self.steps - index - 1)
        self.log.info(
            f"epoch {epoch + 1} [{index + 1}/{self.steps}] lr {lr:.4g} {accuracy} grad norm "
            f"{norm.item():.3g}; {speed}; eta {tqdm.format_interval(left)}"
        )

    def _log_failures(self, meters):
        """Collective: name videos that could not be decoded, of all processes."""
        videos = self.train_loader.dataset.video_list
        failures = []
        for part in self.world.gather(meters.failures[:NAMED_FAILURES]):
            failures += part
        for failure in failures[:NAMED_FAILURES]:
            self.log.info(
                f"warning: {videos.path}:{failure.line}: {failure.id}: {failure.reason}; skipped"
            )

    def _log_trained(self, epoch, result):
        self.log.info(
            f"epoch {epoch + 1}/{self.epochs}: loss {result['loss']:.4f} Prec@1 "
            f"{result['top1']:.2f}, {result['videos']} videos, {result['skipped']} skipped, "
            f"{result['seconds']:.0f} s, {result['videos_per_second']:.1f} videos/s, "
            f"data {result['data_share']:.0%}"
        )
        text = advice(result["data_share"], self.train_loader.num_workers)
        if text:
            self.log.info(text)

    def _log_values(self, epoch, values):
        """Write the values of an epoch to TensorBoard and ``log.jsonl``."""
        step = (epoch + 1) * self.steps
        scalars = {key.replace("_", "__", 1): value for key, value in values.items()}
        lr = self.schedule.rate(step - 1)
        self.log.log_scalars(step, **scalars, lr=lr)
        self.log.log_metrics(epoch=epoch + 1, step=step, best=self.best, lr=lr, **values)

    def _log_remaining_time(self, seconds, done, epoch):
        """Log the time that is left, from the epochs that this run has done."""
        left = self.epochs - epoch - 1
        if left:
            eta = tqdm.format_interval(seconds / done * left)
            self.log.info(f"{counted(left, 'epoch')} to go, eta {eta}")
