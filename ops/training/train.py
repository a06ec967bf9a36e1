"""What main.py does: set up a training, then train or evaluate."""

from functools import partial
from pathlib import Path

import torch

from ops import checkpoints, distributed
from ops.backbones.pretrained import fetch
from ops.checkpoints.torch_file import read_state_dict
from ops.data.clips import TestDataset, TrainDataset
from ops.data.datasets import choose_flip, describe_flip, flip_map, load_class_names, resolve
from ops.data.loader import ShardSampler, TrainSampler, make_loader
from ops.data.preflight import training_lists
from ops.data.sampling import SAMPLINGS, dense_stride
from ops.models import TSN
from ops.temporal import MODULES, option_names
from ops.training import loop
from ops.training.logger import RunLog
from ops.training.loss import build_loss
from ops.training.mixup import mixer
from ops.training.optim import build_optimizer, parameter_groups
from ops.training.run_dir import LAST, SaveInterval, check_unused, newest
from ops.training.run_metadata import digest, write_settings
from ops.training.schedule import Schedule, rate_for
from ops.training.sync_batchnorm import synchronize
from ops.utils.errors import UserError
from ops.utils.text import counted


def run(args, notes, fixed_options):
    """Train or evaluate.

    Args:
        args: the arguments of ``main.py``.
        notes: lines for the log.
        fixed_options: names of the options that a resumed run must share with the first one.
    """
    with distributed.start(args.device, args.local_rank, args.deterministic) as world:
        train(args, notes, fixed_options, world)


def train(args, notes, fixed_options, world):
    folder = Path(args.output_dir)
    if world.is_main and not args.evaluate:
        check_folder(args, folder)
    data = resolve(
        args.dataset,
        args.modality,
        multi_label=args.multi_label or None,
        **some(args, "train_list val_list root_path num_class class_names image_tmpl"),
    )
    names = load_class_names(data)
    args.flip, flip_reason = choose_flip(data, args.flip, args.module, MODULES[args.module].flips)
    labels = flip_map(data, names, args.flip)
    lists, list_warnings = training_lists(
        data,
        args.modality,
        evaluate=args.evaluate,
        skip_missing=args.missing == "skip",
        decoder=None if args.dry_run else args.decoder,
    )
    checkpoint, damaged = find_checkpoint(args, world)
    if args.evaluate and not checkpoint:
        raise UserError("-e needs --resume with the checkpoint to evaluate")
    net, groups, tuned = make_network(args, data, names, world, checkpoint)
    total = world.size * args.batch_size * args.accumulate
    lr, rate, rate_warning = rate_for(total, args.lr, args.lr_batch, args.scale_lr)
    criterion = build_loss(args, multi_label=data.multi_label)
    validation_criterion = build_loss(args, multi_label=data.multi_label, training=False)
    optimizer = build_optimizer(
        groups, args.optimizer, lr=lr, momentum=args.momentum, nesterov=args.nesterov
    )
    loaders = make_loaders(args, data, lists, labels, net, world)
    schedule = Schedule(
        lr=lr,
        steps_per_epoch=len(loaders[0]) // args.accumulate,
        scheduler=args.lr_scheduler,
        decay_rate=args.lr_decay_rate,
        warmup_epochs=args.warmup_epoch,
        **some(args, "epochs lr_steps warmup_multiplier min_lr"),
    )
    course, course_warning = schedule.describe(), schedule.warning()
    about = (
        f"{checkpoints.describe(net.spec)} of {counted(net.frames_per_segment, 'frame')} at {args.input_size}; "
        f"total batch {total} = {counted(world.size, 'process', 'processes')} x {counted(args.batch_size, 'video')} x "
        f"{args.accumulate} accumulated; {rate}, {args.lr_policy}{optimizer_words(args)}; "
        f"{'partial' if args.partial_bn else 'full'} BN; {world.device}, amp {args.amp}"
    )
    flips = f"{describe_flip(data, labels)} ({args.flip}: {flip_reason})"
    first_lines = [*notes, *tuned, about, f"schedule: {course}", flips]
    list_warnings = [f"warning: {text}" for text in list_warnings]
    first_lines += list_warnings
    first_lines += [f"warning: {text}" for text in (rate_warning, course_warning) if text]
    plan_warnings = [loader.plan.warning for loader in loaders if loader.plan.warning]
    first_lines += [f"warning: {text}" for text in plan_warnings]
    if args.dry_run:
        if world.is_main:
            counts = ", ".join(
                counted(len(videos), f"{name} video") for name, videos in lists.items()
            )
            classes = counted(data.num_class, "class", "classes")
            print("\n".join(first_lines))
            print(f"dry run: {counts}, {classes}; nothing was trained")
        return
    recipe = {
        **vars(args),
        "dataset": data.name,
        "total_batch": total,
        "dense_stride": dense_distance(args),
    }
    scaler = torch.amp.GradScaler(world.device.type) if args.amp == "fp16" else None
    resume = partial(
        loop.resume,
        checkpoint,
        net,
        optimizer,
        scaler,
        fixed_options=fixed_options,
        class_names=names,
        names_file=data.class_names,
    )
    if args.evaluate:
        resume({}, world.size)
        with loaders[-1] as loader:
            result = loop.validate(
                net,
                loader,
                world,
                validation_criterion,
                amp=args.amp,
                batch_size=args.batch_size,
            )
        if world.is_main:
            validation = loop.validation_line(result, loaders[-1].dataset)
            print("\n".join([*notes, *list_warnings, validation]))
        return
    ema = loop.averaged(net, args.ema) if args.ema else None
    start = resume(recipe, world.size, ema) if checkpoint else loop.Start()
    torch.backends.cudnn.benchmark = not args.deterministic  # every batch has the same shape
    model = torch.compile(net) if args.compile else net
    model = world.data_parallel(model)
    with RunLog(folder, world.is_main, start.epoch, overwrite=args.overwrite) as log:
        if world.is_main:
            write_settings(
                folder,
                **recipe,
                world_size=world.size,
                lr_used=lr,
                num_classes=data.num_class,
                class_names_sha256=digest(names),
                videos={name: len(videos) for name, videos in lists.items()},
            )
        for line in first_lines:
            log.info(line)
        log.info(
            f"{counted(len(lists['train']), 'training video')} and "
            f"{counted(len(lists['val']), 'validation video')}, "
            f"{counted(data.num_class, 'class', 'classes')}; writing to {folder}/"
        )
        if checkpoint:
            for warning in damaged:
                log.info(f"warning: {warning}")
            steps = len(loaders[0]) // args.accumulate
            log.info(f"resumed {checkpoint} {loop.describe_start(start, steps)}")
        best = loop.fit(
            net,
            model,
            loaders,
            optimizer,
            world,
            log,
            folder=folder,
            start=start,
            learning_rate=schedule.rate,
            criterion=criterion,
            validation_criterion=validation_criterion,
            save_every=SaveInterval.parse(args.save_every),
            scaler=scaler,
            ema=ema,
            recipe=recipe,
            class_names=names,
            mix=mixer(data.num_class, args.mixup, args.cutmix),
            clip_shape=(net.num_segments, net.frame_channels, net.input_size, net.input_size),
            **some(
                args,
                "epochs keep amp eval_freq batch_size accumulate clip_gradient seed print_freq",
            ),
        )
        log.info(f"finished: best {best:.2f}%, weights in {folder}/best.pth")


def optimizer_words(args):
    """What the log adds for an optimizer other than plain SGD."""
    if args.nesterov:
        return ", Nesterov momentum"
    if args.optimizer != "sgd":
        return f", {args.optimizer}"
    return ""


def check_folder(args, folder):
    """Refuse an output folder whose training this run would replace without being asked to."""
    if args.overwrite or args.resume == "auto":
        return
    if args.resume:
        source = Path(args.resume).resolve()
        if folder.resolve() in (source, source.parent):
            return  # continues the training of this very folder
    check_unused(folder)


def find_checkpoint(args, world):
    """The checkpoint that ``--resume`` means, the same on every process.

    Args:
        args: the arguments of ``main.py``.
        world: of ``ops.distributed``.

    Returns:
        (path or None, a line for each damaged checkpoint that was passed over).

    Raises:
        UserError: a file or folder that does not exist, a folder without checkpoints (but for
            ``auto``, which then starts anew), or one whose checkpoints are all damaged.
    """
    if not args.resume:
        return None, []
    is_auto = args.resume == "auto"
    source = Path(args.output_dir if is_auto else args.resume)
    if not is_auto and not source.is_dir():
        if not source.exists():
            raise UserError(f"--resume {source}: no such checkpoint file")
        return source, []
    found = newest(source) if world.is_main else None
    checkpoint, damaged = world.from_main(found)
    if checkpoint is None and not is_auto:
        raise UserError(
            f"--resume {source}: a folder without {LAST}; give a checkpoint or a run's folder"
        )
    return checkpoint, damaged


def make_network(args, data, names, world, checkpoint):
    """The network to be trained.

    Args:
        args: the arguments of ``main.py``.
        data: the dataset.
        names: its class names, or None.
        world: of ``ops.distributed``.
        checkpoint: the checkpoint that will replace all weights, so that no others are read or downloaded; None without one.

    Returns:
        The TSN on its device (of a dry run without memory), the parameter groups of its optimizer, and lines for the log
        about ``--tune_from``.
    """
    pretrain = "none" if args.dry_run or checkpoint else args.pretrain
    if pretrain == "imagenet" and world.size > 1:
        if world.local_rank == 0:
            fetch(args.arch)  # the others find it in the cache of this machine
        world.barrier()
    if pretrain not in ("none", "imagenet"):
        pretrain = read_state_dict(pretrain)
    torch.manual_seed(args.seed)  # the same initial weights on every process
    with torch.device("meta" if args.dry_run else "cpu"):
        net = TSN(
            data.num_class,
            consensus=args.consensus_type,
            pretrain=pretrain,
            **some(
                args,
                "module num_segments arch modality dropout partial_bn non_local temporal_pool stochastic_depth input_size",
            ),
            **{name: getattr(args, name) for name in option_names()},
        )
    lines = []
    head_kept = False
    if args.tune_from and not checkpoint:
        report, head_kept = checkpoints.tune(
            net,
            args.tune_from,
            dataset=data.name,
            class_names=names,
            weights_key=args.weights_key,
            dry_run=args.dry_run,
        )
        lines.append(report)
    if args.fc_lr5 is None and args.tune_from and checkpoint:
        # Whether the head was taken over when the run began decided it.
        args.fc_lr5 = loop.read_recipe(checkpoint).get("fc_lr5")
    if args.fc_lr5 is None:
        args.fc_lr5 = not head_kept
    if not args.dry_run:
        net.to(world.device)
    if args.channels_last:
        net.to_channels_last()
    if args.sync_bn:
        synchronize(net, world)
    groups = parameter_groups(
        net, args.lr_policy, weight_decay=args.weight_decay, fc_lr5=args.fc_lr5
    )
    return net, groups, lines


def dense_distance(args):
    """Frames between the segments of dense sampling, None for other samplings."""
    if not SAMPLINGS[args.sampling].uses_window:
        return None
    return dense_stride(args.num_segments, MODULES[args.module].dense_stride)


def make_loaders(args, data, lists, labels, net, world):
    """The training and the validation loader (without training, only the latter)."""
    common = {
        "num_segments": net.num_segments,
        "frames_per_segment": net.frames_per_segment,
        "image_tmpl": data.image_tmpl,
        "decoder": args.decoder,
        "crop_size": net.input_size,
        "seed": args.seed,
        "modality": args.modality,
        "compat": args.sampling_compat,
        "dense_stride": dense_distance(args),
    }
    finish = partial(
        make_loader,
        workers=args.workers,
        pin_memory=world.device.type == "cuda",
        timeout=args.timeout,
    )
    loaders = []
    if "train" in lists:
        dataset = TrainDataset(lists["train"], flip_map=labels, sampling=args.sampling, **common)
        # Batches that are accumulated belong to one step: the sampler drops what does not fill it.
        sampler = TrainSampler(
            len(dataset),
            args.batch_size,
            accumulate=args.accumulate,
            rank=world.rank,
            world_size=world.size,
            seed=args.seed,
        )
        loaders.append(finish(dataset, sampler, args.batch_size))
    sampling = SAMPLINGS[args.sampling].validation
    dataset = TestDataset(
        lists["val"], num_clips=1, scale_size=net.scale_size, sampling=sampling, **common
    )
    loaders.append(
        finish(dataset, ShardSampler(len(dataset), rank=world.rank, world_size=world.size), None)
    )
    return loaders


def some(args, names):
    """The arguments of these names, as keywords."""
    return {name: getattr(args, name) for name in names.split()}
