"""What ``main.py`` does: set up a training from its flags, then train or evaluate."""

from argparse import Namespace
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ops import checkpoints, distributed
from ops.backbones.pretrained import fetch
from ops.backbones.recompute import recompute_activations
from ops.checkpoints.torch_file import read_state_dict
from ops.data.clips import TestDataset, TrainDataset
from ops.data.datasets import (
    Dataset,
    choose_flip,
    describe_flip,
    flip_map,
    load_class_names,
    resolve,
)
from ops.data.lists import VideoList
from ops.data.loader import ShardSampler, TrainSampler, make_loader
from ops.data.preflight import training_lists
from ops.data.sampling import SAMPLINGS, dense_stride
from ops.models import TSN
from ops.temporal import MODULES, option_names
from ops.training.batch_size import AUTO, check_auto, resolve_batch_size
from ops.training.class_weights import BALANCED, class_weights
from ops.training.ema import WeightAverage
from ops.training.freeze import freeze
from ops.training.logger import RunLog
from ops.training.loss import build_loss
from ops.training.mixup import mixer
from ops.training.optim import build_optimizer, parameter_groups
from ops.training.pictures import RunPictures
from ops.training.resume import ResumeState, TrainingCheckpoint, find_checkpoint
from ops.training.run_dir import SaveInterval, check_unused
from ops.training.run_metadata import digest, write_settings
from ops.training.schedule import Schedule, rate_for
from ops.training.step import TrainStep
from ops.training.sync_batchnorm import synchronize
from ops.training.trainer import Trainer
from ops.training.validation import validate, validation_line
from ops.utils.compiled import CompiledNetwork
from ops.utils.errors import UserError
from ops.utils.files import atomic_write
from ops.utils.text import counted


def run(args, notes, fixed_options, args_toml):
    """Train, evaluate a checkpoint (``-e``), or only check the flags (``--dry_run``).

    Args:
        args: the arguments of ``main.py``. Those that depend on the data or the checkpoint,
            ``flip``, ``fc_lr5`` and ``batch_size``, are resolved in place.
        notes: lines for the log about choices that no flag made.
        fixed_options: names of the options that a resumed run must share with the first one.
        args_toml: function (args, number of processes) -> the text of ``args.toml``.

    Raises:
        UserError: flags, data or checkpoint do not fit together; a loss is not finite.
        Stopped: after a signal, with the state saved.
    """
    with distributed.start(args.device, args.local_rank, args.deterministic) as world:
        if world.is_main and not args.evaluate:
            check_folder(args)
        setup = prepare(args, world)
        if args.dry_run:
            if world.is_main:
                report_dry_run(setup, notes)
        elif args.evaluate:
            evaluate(setup, notes)
        else:
            train(setup, notes, fixed_options, args_toml)


@dataclass
class Setup:
    """All that a training is made of.

    Attributes:
        args: the arguments of ``main.py``.
        world: of ``ops.distributed``.
        data: the dataset.
        class_names: in label order, or None.
        lists: "train" and "val", or the latter only -> videos.
        list_warnings: about the lists.
        flips: label after a flip, int64 ``[num_class]``, or None.
        flip_reason: why ``--flip`` has its value.
        checkpoint: the ``TrainingCheckpoint`` of ``--resume``, or None.
        damaged: a line for each damaged checkpoint that was passed over.
        net: the TSN on its device (without memory in a dry run).
        net_notes: lines for the log about ``--tune_from``, ``--freeze`` and the batch size.
        optimizer: of ``ops.training.optim``.
        train_loader: None for an evaluation.
        val_loader: of the validation.
        class_weights: of ``--class_weights``, float32 ``[num_class]``, or None.
        schedule: of the learning rate.
        total_batch: videos of one step of the optimizer, of all processes.
        lr_note: words about the learning rate, for the log.
        lr_warning: a warning about it, or None.
    """

    args: Namespace
    world: distributed.World
    data: Dataset
    class_names: list[str] | None
    lists: dict[str, VideoList]
    list_warnings: list[str]
    flips: np.ndarray | None
    flip_reason: str
    checkpoint: TrainingCheckpoint | None
    damaged: list[str]
    net: TSN
    net_notes: list[str]
    optimizer: torch.optim.Optimizer
    train_loader: torch.utils.data.DataLoader | None
    val_loader: torch.utils.data.DataLoader
    class_weights: torch.Tensor | None
    schedule: Schedule
    total_batch: int
    lr_note: str
    lr_warning: str | None

    @property
    def recipe(self):
        """The options of the run, for its checkpoints and ``args.json``."""
        return {
            **vars(self.args),
            "dataset": self.data.name,
            "total_batch": self.total_batch,
            "dense_stride": distance_of_segments(self.args),
        }


def check_folder(args):
    """Raise UserError if this run would replace the training of its folder without being asked."""
    folder = Path(args.output_dir)
    if args.overwrite or args.resume == "auto":
        return
    if args.resume:
        source = Path(args.resume).resolve()
        if folder.resolve() in (source, source.parent):
            return  # continues the training of this very folder
    check_unused(folder)


def prepare(args, world):
    """The :class:`Setup` of a run. Raises UserError for what does not fit together."""
    data = resolve(
        args.dataset,
        args.modality,
        multi_label=args.multi_label or None,
        train_list=args.train_list,
        val_list=args.val_list,
        root_path=args.root_path,
        num_class=args.num_class,
        class_names=args.class_names,
        image_tmpl=args.image_tmpl,
    )
    class_names = load_class_names(data)
    module = MODULES[args.module]
    args.flip, flip_reason = choose_flip(data, args.flip, args.module, module.flips)
    flips = flip_map(data, class_names, args.flip)
    lists, list_warnings = training_lists(
        data,
        args.modality,
        evaluate=args.evaluate,
        skip_missing=args.missing == "skip",
        decoder=None if args.dry_run else args.decoder,
    )
    path, damaged = find_checkpoint(args.resume, args.output_dir, world)
    if args.evaluate and not path:
        raise UserError("-e needs --resume with the checkpoint to evaluate")
    checkpoint = TrainingCheckpoint(path) if path else None
    check_auto(args, world, checkpoint)
    net, net_notes = build_network(args, data, class_names, world, checkpoint)
    if args.batch_size == AUTO:
        videos = len(lists.get("train", ()))
        args.batch_size, note = resolve_batch_size(args, net, world, checkpoint, videos)
        net_notes.append(note)
    groups = parameter_groups(
        net,
        args.lr_policy,
        weight_decay=args.weight_decay,
        fc_lr5=args.fc_lr5,
        layer_decay=args.layer_decay,
    )
    total_batch = world.size * args.batch_size * args.accumulate
    lr, lr_note, lr_warning = rate_for(total_batch, args.lr, args.lr_batch, args.scale_lr)
    optimizer = build_optimizer(
        groups,
        args.optimizer,
        lr=lr,
        momentum=args.momentum,
        nesterov=args.nesterov,
        implementation=args.optimizer_impl,
    )
    train_loader = None
    if "train" in lists:
        train_loader = make_train_loader(args, data, lists["train"], flips, net, world)
    val_loader = make_val_loader(args, data, lists["val"], net, world)
    weights = None
    if args.class_weights and "train" in lists:
        weights = class_weights(args.class_weights, lists["train"].labels, data.num_class)
        weights = torch.from_numpy(weights).to(world.device)
    schedule = Schedule(
        lr=lr,
        epochs=args.epochs,
        steps_per_epoch=len(train_loader) // args.accumulate if train_loader else 1,
        scheduler=args.lr_scheduler,
        lr_steps=args.lr_steps,
        decay_rate=args.lr_decay_rate,
        warmup_epochs=args.warmup_epoch,
        warmup_multiplier=args.warmup_multiplier,
        min_lr=args.min_lr,
    )
    return Setup(
        args=args,
        world=world,
        data=data,
        class_names=class_names,
        lists=lists,
        list_warnings=list_warnings,
        flips=flips,
        flip_reason=flip_reason,
        checkpoint=checkpoint,
        damaged=damaged,
        net=net,
        net_notes=net_notes,
        optimizer=optimizer,
        train_loader=train_loader,
        val_loader=val_loader,
        class_weights=weights,
        schedule=schedule,
        total_batch=total_batch,
        lr_note=lr_note,
        lr_warning=lr_warning,
    )


def build_network(args, data, class_names, world, checkpoint):
    """The network to be trained.

    Args:
        args: the arguments of ``main.py``; ``fc_lr5`` is resolved in place.
        data: the dataset.
        class_names: in label order, or None.
        world: of ``ops.distributed``.
        checkpoint: the checkpoint whose weights will replace all others, so that no others are read
            or downloaded; None without one.

    Returns:
        (the TSN on its device, or without memory in a dry run; lines for the log about
        ``--tune_from`` and ``--freeze``).
    """
    pretrain = "none" if args.dry_run or checkpoint else args.pretrain
    settings = _network_settings(args)
    if pretrain == "imagenet":
        # Flags that exclude each other are an error before a download.
        with torch.device("meta"):
            TSN(data.num_class, args.num_segments, **settings)
        _fetch_once(args.arch, world)
    if pretrain not in ("none", "imagenet"):
        pretrain = read_state_dict(pretrain)
    torch.manual_seed(args.seed)  # the same initial weights on every process
    with torch.device("meta" if args.dry_run else "cpu"):
        net = TSN(data.num_class, args.num_segments, pretrain=pretrain, **settings)
    notes = []
    head_kept = False
    if args.tune_from and not checkpoint:
        report, head_kept = checkpoints.tune(
            net,
            args.tune_from,
            dataset=data.name,
            class_names=class_names,
            weights_key=args.weights_key,
            dry_run=args.dry_run,
        )
        notes.append(report)
    if args.fc_lr5 is None and args.tune_from and checkpoint:
        # The first run decided it, by whether the head was kept.
        args.fc_lr5 = checkpoint.recipe.get("fc_lr5")
    if args.fc_lr5 is None:
        args.fc_lr5 = not head_kept
    if not args.dry_run:
        net.to(world.device)
    if args.channels_last:
        net.to_channels_last()
    if args.sync_bn:
        synchronize(net, world)
    if args.checkpoint_activations:
        recompute_activations(net.backbone, args.arch)
    if args.freeze and not args.evaluate:
        notes += freeze(net, args.freeze, pretrained=_pretrained_parts(args, checkpoint))
    return net, notes


def _network_settings(args):
    """The keyword arguments of the TSN that the arguments of ``main.py`` describe."""
    return {
        "arch": args.arch,
        "module": args.module,
        "modality": args.modality,
        "consensus": args.consensus_type,
        "dropout": args.dropout,
        "partial_bn": args.partial_bn,
        "non_local": args.non_local,
        "temporal_pool": args.temporal_pool,
        "stochastic_depth": args.stochastic_depth,
        "input_size": args.input_size,
        **{name: getattr(args, name) for name in option_names()},
    }


def _fetch_once(arch, world):
    """Collective: download pretrained weights in one process of each machine."""
    if world.size == 1:
        return
    if world.local_rank == 0:
        fetch(arch)  # the others find it in the cache of this machine
    world.barrier()


def _pretrained_parts(args, checkpoint):
    """Which weights are trained already: see :func:`ops.training.freeze.freeze`."""
    if args.tune_from or checkpoint:
        return "all"
    if args.pretrain != "none":
        return "backbone"
    return "none"


def distance_of_segments(args):
    """Frames between the segments of a sampling with a window, None for other samplings."""
    if not SAMPLINGS[args.sampling].uses_window:
        return None
    return dense_stride(args.num_segments, MODULES[args.module].dense_stride)


def make_train_loader(args, data, videos, flips, net, world):
    """The loader of the training clips."""
    dataset = TrainDataset(
        videos, flip_map=flips, sampling=args.sampling, **_clip_options(args, data, net)
    )
    balanced_labels = None
    if args.balanced_sampling:
        if data.multi_label:
            raise UserError(
                f"--balanced_sampling is for one label per video: leave it out for {data.name}"
            )
        balanced_labels = videos.labels
    # Batches that are accumulated belong to one step: the sampler drops what does not fill it.
    sampler = TrainSampler(
        len(dataset),
        args.batch_size,
        accumulate=args.accumulate,
        rank=world.rank,
        world_size=world.size,
        seed=args.seed,
        balanced_labels=balanced_labels,
    )
    return make_loader(dataset, sampler, args.batch_size, **_loader_options(args, world))


def make_val_loader(args, data, videos, net, world):
    """The loader of the validation: one clip and one crop of each video."""
    dataset = TestDataset(
        videos,
        num_clips=1,
        scale_size=net.scale_size,
        sampling=SAMPLINGS[args.sampling].validation,
        **_clip_options(args, data, net),
    )
    sampler = ShardSampler(len(dataset), rank=world.rank, world_size=world.size)
    return make_loader(dataset, sampler, None, **_loader_options(args, world))


def _clip_options(args, data, net):
    return {
        "num_segments": net.num_segments,
        "frames_per_segment": net.frames_per_segment,
        "image_tmpl": data.image_tmpl,
        "decoder": args.decoder,
        "crop_size": net.input_size,
        "seed": args.seed,
        "modality": args.modality,
        "compat": args.sampling_compat,
        "dense_stride": distance_of_segments(args),
    }


def _loader_options(args, world):
    return {
        "workers": args.workers,
        "pin_memory": world.device.type == "cuda",
        "timeout": args.timeout,
    }


def describe(setup, notes):
    """The first lines of the log."""
    args, net, world = setup.args, setup.net, setup.world
    optimizer = ""
    if args.nesterov:
        optimizer = ", Nesterov momentum"
    elif args.optimizer != "sgd":
        optimizer = f", {args.optimizer}"
    policy = args.lr_policy
    if args.layer_decay < 1:
        policy += f" x {args.layer_decay:g} per layer"
    loss = f"; loss {args.loss}" if args.loss else ""
    batch_norm = "partial" if args.partial_bn else "full"
    lines = [
        *notes,
        *setup.net_notes,
        f"{checkpoints.describe(net.spec)} of {counted(net.frames_per_segment, 'frame')} at "
        f"{args.input_size}; total batch {setup.total_batch} = "
        f"{counted(world.size, 'process', 'processes')} x {counted(args.batch_size, 'video')} x "
        f"{args.accumulate} accumulated; {setup.lr_note}, {policy}{optimizer}{loss}; "
        f"{batch_norm} BN; {world.device}, amp {args.amp}",
        f"schedule: {setup.schedule.describe()}",
        f"{describe_flip(setup.data, setup.flips)} ({args.flip}: {setup.flip_reason})",
        *_describe_classes(setup),
    ]
    warnings = [setup.lr_warning, setup.schedule.warning(), _warning_about_classes(args)]
    return [*lines, *_warnings_about_inputs(setup), *_as_warnings(warnings)]


def _warnings_about_inputs(setup):
    """Lines for the user about the lists, the checkpoint and the loaders of a run."""
    warnings = [*setup.list_warnings, *setup.damaged]
    for loader in (setup.train_loader, setup.val_loader):
        if loader:
            warnings.append(loader.plan.warning)
    return _as_warnings(warnings)


def _as_warnings(texts):
    """Lines of those that are not None."""
    return [f"warning: {text}" for text in texts if text]


def _describe_classes(setup):
    """Lines for the log about how much each class counts, where that is not by its videos."""
    lines = []
    if setup.args.balanced_sampling:
        lines.append("classes: trained on equally often")
    if setup.class_weights is not None:
        low, high = setup.class_weights.aminmax()
        weights = f"{low.item():.3g} to {high.item():.3g}"
        lines.append(f"class weights: {setup.args.class_weights}, {weights}")
    return lines


def _warning_about_classes(args):
    """A warning about classes that are balanced twice, or None."""
    if not (args.balanced_sampling and args.class_weights == BALANCED):
        return None
    return (
        "--balanced_sampling and --class_weights balanced make rare classes count more than "
        "frequent ones; give one of them"
    )


def report_dry_run(setup, notes):
    """Print what a run with these flags would do."""
    videos = [counted(len(videos), f"{name} video") for name, videos in setup.lists.items()]
    classes = counted(setup.data.num_class, "class", "classes")
    print(*describe(setup, notes), sep="\n")
    print(f"dry run: {', '.join(videos)}, {classes}; nothing was trained")


def evaluate(setup, notes):
    """Validate the checkpoint of ``--resume``."""
    args = setup.args
    setup.checkpoint.check_model(setup.net.spec, setup.class_names, setup.data.class_names)
    setup.checkpoint.restore_weights(setup.net)
    criterion = build_loss(args, multi_label=setup.data.multi_label, training=False)
    net = setup.net
    if args.compile:
        net = CompiledNetwork(net, args.batch_size)
    with setup.val_loader as loader:
        result = validate(
            net,
            loader,
            setup.world,
            criterion,
            amp=args.amp,
            batch_size=args.batch_size,
        )
    if setup.world.is_main:
        line = validation_line(result, setup.val_loader.dataset)
        print(*notes, *_warnings_about_inputs(setup), line, sep="\n")


def train(setup, notes, fixed_options, args_toml):
    """Train up to ``--epochs``, from the start or from the checkpoint of ``--resume``."""
    args, world, net = setup.args, setup.world, setup.net
    make_loss = partial(build_loss, args, multi_label=setup.data.multi_label)
    criterion = make_loss(class_weights=setup.class_weights)
    validation_criterion = make_loss(training=False)
    scaler = torch.amp.GradScaler(world.device.type) if args.amp == "fp16" else None
    ema = WeightAverage(net, args.ema) if args.ema else None
    start = restore(setup, fixed_options, scaler, ema)
    torch.backends.cudnn.benchmark = not args.deterministic  # every batch has the same shape
    model = net
    if args.compile:
        model = CompiledNetwork(net, args.batch_size)
    step = TrainStep(
        model=world.data_parallel(model),
        optimizer=setup.optimizer,
        criterion=criterion,
        device=world.device,
        clip_shape=(net.num_segments, net.frame_channels, net.input_size, net.input_size),
        amp=args.amp,
        scaler=scaler,
        accumulate=args.accumulate,
        clip_gradient=args.clip_gradient,
        mix=mixer(setup.data.num_class, args.mixup, args.cutmix),
    )
    folder = Path(args.output_dir)
    with RunLog(folder, world.is_main, start.epoch, overwrite=args.overwrite) as log:
        if world.is_main:
            write_run_settings(setup, args_toml(args, world.size))
        log.start_trackers(
            args.log_to,
            run_ids=setup.checkpoint.tracker_ids if setup.checkpoint else {},
            project=setup.data.name,
            name=folder.resolve().name,
            config=setup.recipe,
        )
        log_start(setup, notes, start, log)
        trainer = Trainer(
            net=net,
            step=step,
            train_loader=setup.train_loader,
            val_loader=setup.val_loader,
            world=world,
            log=log,
            folder=folder,
            schedule=setup.schedule,
            validation_criterion=validation_criterion,
            recipe=setup.recipe,
            epochs=args.epochs,
            batch_size=args.batch_size,
            save_every=SaveInterval.parse(args.save_every),
            class_names=setup.class_names,
            ema=ema,
            compile=args.compile,
            eval_freq=args.eval_freq,
            patience=args.patience,
            precise_bn=args.precise_bn,
            keep=args.keep,
            seed=args.seed,
            print_freq=args.print_freq,
            pictures=make_pictures(setup, log),
        )
        best = trainer.fit(start)
        log.info(f"finished: best {best:.2f}%, weights in {folder}/best.pth")


def make_pictures(setup, log):
    """The ``RunPictures`` of the process that logs, None in the others."""
    if not setup.world.is_main:
        return None
    data = setup.data
    return RunPictures(log, setup.args.modality, data.num_class, setup.class_names)


def restore(setup, fixed_options, scaler, ema):
    """Restore the checkpoint of ``--resume``, if there is one.

    Args:
        setup: of the run, whose network and optimizer are filled.
        fixed_options: names of the options that must be the same in both runs.
        scaler: a ``GradScaler`` to be filled, or None.
        ema: the average of the weights to be filled, or None.

    Returns:
        the ``ResumeState`` of the run.
    """
    checkpoint = setup.checkpoint
    if checkpoint is None:
        return ResumeState()
    checkpoint.check_model(setup.net.spec, setup.class_names, setup.data.class_names)
    checkpoint.check_recipe(setup.recipe, fixed_options, setup.world.size)
    checkpoint.restore_weights(setup.net, ema)
    checkpoint.restore_optimizer(setup.optimizer, scaler)
    checkpoint.release()
    return checkpoint.state()


def write_run_settings(setup, recipe_toml):
    """Write ``args.json``, and ``args.toml`` with the given text."""
    folder = Path(setup.args.output_dir)
    write_settings(
        folder,
        **setup.recipe,
        world_size=setup.world.size,
        lr_used=setup.schedule.lr,
        num_classes=setup.data.num_class,
        class_names_sha256=digest(setup.class_names),
        videos={name: len(videos) for name, videos in setup.lists.items()},
    )
    with atomic_write(folder / "args.toml", "w") as file:
        file.write(recipe_toml)


def log_start(setup, notes, start, log):
    """Write the first lines of the log."""
    args, data, lists = setup.args, setup.data, setup.lists
    for line in describe(setup, notes):
        log.info(line)
    log.info(
        f"{counted(len(lists['train']), 'training video')} and "
        f"{counted(len(lists['val']), 'validation video')}, "
        f"{counted(data.num_class, 'class', 'classes')}; writing to {args.output_dir}/"
    )
    if setup.checkpoint:
        steps = setup.schedule.steps_per_epoch
        log.info(f"resumed {setup.checkpoint.path} {start.describe(steps)}")
