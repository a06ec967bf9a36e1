"""Train or evaluate a video model.

    python main.py something RGB --module tdn --arch resnet50 --num_segments 8 --gd 20 --lr 0.01 --lr_steps 30 45 55 \\
        --epochs 60 --batch-size 8 --wd 5e-4 --dropout 0.5 -j 4
    torchrun --nproc_per_node 8 main.py something RGB ...           eight GPUs (or CPUs); --batch-size is per process
    python main.py mine.toml RGB ...                                data of your own (docs/data.md)

Writes to --output_dir: args.json, log.txt, log.jsonl, tensorboard/, last.pth and best.pth. Start the same command with
--resume auto to go on after a stop.
"""

from functools import partial
from pathlib import Path

import torch

from ops import checkpoints, distributed, training
from ops.data.clips import TestDataset, TrainDataset
from ops.data.datasets import describe_flip, flip_map, load_class_names, resolve
from ops.data.loader import ShardSampler, TrainSampler, make_loader
from ops.data.sources import training_lists
from ops.errors import UserError, run_front
from ops.logs import RunLog
from ops.models import TSN
from ops.optim import learning_rate, parameter_groups, rate_for
from ops.options import OPTIONS, training_arguments
from ops.train.mixing import mixer
from ops.train.run_facts import digest, write_settings
from ops.train.run_files import newest
from ops.train.sync_norm import synchronise
from ops.utils.text import counted


def main():
    args = training_arguments(__doc__)
    with distributed.start(args.device, args.local_rank, args.deterministic) as world:
        train(args, world)


def train(args, world):
    data = resolve(
        args.dataset,
        args.modality,
        multi_label=args.multi_label or None,
        **some(args, "train_list val_list root_path num_class class_names image_tmpl"),
    )
    names = load_class_names(data)
    labels = None if args.no_flip else flip_map(data, names)
    lists, warnings = training_lists(
        data,
        args.modality,
        evaluate=args.evaluate,
        skip_missing=args.missing == "skip",
        decoder=None if args.dry_run else args.decoder,
    )
    for warning in warnings * world.is_main:
        print(f"warning: {warning}")
    net, groups = make_network(args, data, names, world)
    total = world.size * args.batch_size * args.accumulate
    lr, rate = rate_for(total, args.lr, args.lr_batch, args.scale_lr)
    optimizer = torch.optim.SGD(groups, lr, momentum=args.momentum)
    loaders = make_loaders(args, data, lists, labels, net, world)
    about = (
        f"{checkpoints.describe(net.spec)} of {counted(net.frames_per_segment, 'frame')} at {args.input_size}; "
        f"total batch {total} = {counted(world.size, 'process', 'processes')} x {counted(args.batch_size, 'video')} x "
        f"{args.accumulate} accumulated; {rate}, {args.lr_policy}; "
        f"{'partial' if args.partial_bn else 'full'} BN; {world.device}, amp {args.amp}"
    )
    if args.dry_run:
        if world.is_main:
            counts = ", ".join(f"{len(videos)} {name} videos" for name, videos in lists.items())
            print(f"dry run: {about}; {counts}, {data.num_class} classes; nothing was trained")
        return
    recipe = {**vars(args), "dataset": data.name, "total_batch": total}
    scaler = torch.amp.GradScaler(world.device.type) if args.amp == "fp16" else None
    folder, auto = Path(args.output_dir), args.resume == "auto" and world.is_main
    checkpoint, damaged = distributed.from_main(
        newest(folder) if auto else (args.resume, [])
    )  # one for all
    if args.evaluate:
        if not checkpoint:
            raise UserError("-e needs --resume with the checkpoint to evaluate")
        training.resume(checkpoint, net, optimizer, scaler, {}, world.size)
        result = training.validate(
            net, loaders[-1], world, amp=args.amp, batch_size=args.batch_size
        )
        if world.is_main:
            print(training.validation_line(result, loaders[-1].dataset))
        return
    ema = training.averaged(net, args.ema) if args.ema else None
    start = (
        training.resume(checkpoint, net, optimizer, scaler, recipe, world.size, ema)
        if checkpoint
        else training.Start()
    )
    torch.backends.cudnn.benchmark = not args.deterministic  # every batch has the same shape
    model = torch.compile(net) if args.compile else net
    if world.size > 1:
        model = torch.nn.parallel.DistributedDataParallel(
            model, device_ids=[world.device.index] if world.device.type == "cuda" else None
        )
    with RunLog(folder, world.is_main, start.epoch) as log:
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
        log.say(about)
        log.say(
            f"{len(lists['train'])} training and {len(lists['val'])} validation videos, {data.num_class} classes; "
            f"{'no flips' if labels is None else describe_flip(data, labels)}; writing to {folder}/"
        )
        if checkpoint:
            for warning in damaged:
                log.say(f"warning: {warning}")
            steps = len(loaders[0]) // args.accumulate
            log.say(f"resumed {checkpoint} {training.describe_start(start, steps)}")
        schedule = partial(
            learning_rate,
            lr=lr,
            steps_per_epoch=len(loaders[0]) // args.accumulate,
            scheduler=args.lr_scheduler,
            decay_rate=args.lr_decay_rate,
            warmup_epochs=args.warmup_epoch,
            **some(args, "epochs lr_steps warmup_multiplier min_lr"),
        )
        best = training.fit(
            net,
            model,
            loaders,
            optimizer,
            world,
            log,
            folder=folder,
            start=start,
            learning_rate=schedule,
            scaler=scaler,
            ema=ema,
            recipe=recipe,
            class_names=names,
            mix=mixer(data.num_class, args.mixup, args.cutmix),
            clip_shape=(net.num_segments, net.frame_channels, net.input_size, net.input_size),
            **some(
                args,
                "epochs save_every keep amp eval_freq batch_size accumulate clip_gradient seed print_freq "
                "label_smoothing",
            ),
        )
        log.say(f"finished: best {best:.2f}%, weights in {folder}/best.pth")


def make_network(args, data, names, world):
    """The TSN on its device (of a dry run on none), and the parameter groups of its optimiser."""
    torch.manual_seed(args.seed)  # the same initial weights on every process
    with torch.device("meta" if args.dry_run else "cpu"):
        net = TSN(
            data.num_class,
            consensus=args.consensus_type,
            pretrain="none" if args.dry_run else args.pretrain,
            **some(
                args,
                "module num_segments arch modality dropout partial_bn non_local temporal_pool stochastic_depth input_size",
            ),
            **some(args, " ".join(OPTIONS)),
        )
    head_kept = False
    if args.tune_from and not args.dry_run:
        report, head_kept = checkpoints.tune(
            net, args.tune_from, dataset=data.name, class_names=names
        )
        if world.is_main:
            print(report)
    if args.fc_lr5 is None:
        args.fc_lr5 = not head_kept
    if not args.dry_run:
        net.to(world.device)
    if args.channels_last:
        net.to_channels_last()
    if args.sync_bn:
        synchronise(net, world)
    return net, parameter_groups(
        net, args.lr_policy, weight_decay=args.weight_decay, fc_lr5=args.fc_lr5
    )


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
    sampling = {"uniform": "center", "dense": "dense"}[args.sampling]
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


if __name__ == "__main__":
    run_front(main)
