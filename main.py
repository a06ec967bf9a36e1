"""Train or evaluate a video model.

    python main.py something RGB --module tdn --arch resnet50 --num_segments 8 --gd 20 --lr 0.01 --lr_steps 30 45 55 \\
        --epochs 60 --batch-size 8 --wd 5e-4 --dropout 0.5 -j 4
    torchrun --nproc_per_node 8 main.py something RGB ...           eight GPUs (or CPUs); --batch-size is per process
    python main.py mine.toml RGB ...                                data of your own (docs/data.md)

Writes to --output_dir: args.json, log.txt, log.jsonl, tensorboard/, last.pth and best.pth. Start the same command with
--resume auto to go on after a stop.
"""
import json
import platform
from functools import partial
from pathlib import Path

import torch

from ops import checkpoints, distributed, training
from ops.data.clips import TestDataset, TrainDataset
from ops.data.datasets import describe_flip, flip_map, load_class_names, resolve
from ops.data.loader import ShardSampler, TrainSampler, loader_errors, make_loader
from ops.data.sources import training_lists
from ops.errors import UserError, run_front
from ops.files import atomic_write
from ops.logs import RunLog
from ops.models import TSN
from ops.optim import learning_rate, parameter_groups
from ops.options import OPTIONS, training_arguments
from ops.run_files import newest


def main():
    args = training_arguments(__doc__)
    with distributed.start(args.device, args.local_rank, args.deterministic) as world, loader_errors():
        train(args, world)


def train(args, world):
    data = resolve(args.dataset, args.modality, train_list=args.train_list, val_list=args.val_list, root_path=args.root_path,
                   num_class=args.num_class, class_names=args.class_names, image_tmpl=args.image_tmpl,
                   multi_label=args.multi_label or None)
    names = load_class_names(data)
    labels = None if args.no_flip else flip_map(data, names)
    lists, warnings = training_lists(data, args.modality, evaluate=args.evaluate, skip_missing=args.missing == "skip",
                                     decoder=None if args.dry_run else args.decoder)
    for warning in warnings * world.is_main:
        print(f"warning: {warning}")
    torch.manual_seed(args.seed)  # the same initial weights on every process
    with torch.device("meta" if args.dry_run else "cpu"):
        net = TSN(data.num_class, args.num_segments, arch=args.arch, module=args.module, modality=args.modality,
                  dropout=args.dropout, consensus=args.consensus_type, partial_bn=args.partial_bn, non_local=args.non_local,
                  temporal_pool=args.temporal_pool, pretrain="none" if args.dry_run else args.pretrain,
                  input_size=args.input_size, **{name: getattr(args, name) for name in OPTIONS})
    head_kept = False
    if args.tune_from and not args.dry_run:
        report, head_kept = checkpoints.tune(net, args.tune_from, dataset=data.name, class_names=names)
        if world.is_main:
            print(report)
    if args.fc_lr5 is None:
        args.fc_lr5 = not head_kept
    if not args.dry_run:
        net.to(world.device)
    if args.channels_last:
        net.to_channels_last()
    groups = parameter_groups(net, args.lr_policy, weight_decay=args.weight_decay, fc_lr5=args.fc_lr5)
    optimizer = torch.optim.SGD(groups, args.lr, momentum=args.momentum)
    loaders = make_loaders(args, data, lists, labels, net, world)
    if args.dry_run:
        if world.is_main:
            counts = ", ".join(f"{len(videos)} {name} videos" for name, videos in lists.items())
            print(f"dry run: {describe(args, net, world)}; {counts}, {data.num_class} classes; nothing was trained")
        return
    recipe = {**vars(args), "dataset": data.name}
    scaler = torch.amp.GradScaler(world.device.type) if args.amp == "fp16" else None
    folder = Path(args.output_dir)
    checkpoint, damaged = newest(folder) if args.resume == "auto" else (args.resume, [])
    if args.evaluate and not checkpoint:
        raise UserError("-e needs --resume with the checkpoint to evaluate")
    start = training.Start()
    if checkpoint:
        start = training.resume(checkpoint, net, optimizer, scaler, {} if args.evaluate else recipe, world.size)
    if args.evaluate:
        result = training.validate(net, loaders[-1], world, amp=args.amp, batch_size=args.batch_size)
        if world.is_main:
            print(training.validation_line(result, loaders[-1].dataset))
        return
    if world.is_main:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / "args.json", "w") as file:
            json.dump({**recipe, "world_size": world.size, "torch": torch.__version__, "python": platform.python_version()},
                      file, indent=1)
    torch.backends.cudnn.benchmark = not args.deterministic  # every batch has the same shape
    model = net
    if args.compile:
        model = torch.compile(model)
    if world.size > 1:
        model = torch.nn.parallel.DistributedDataParallel(
            model, device_ids=[world.device.index] if world.device.type == "cuda" else None)
    with RunLog(folder, world.is_main, start.epoch) as log:
        log.say(describe(args, net, world))
        log.say(f"{len(lists['train'])} training and {len(lists['val'])} validation videos, {data.num_class} classes; "
                f"{'no flips' if labels is None else describe_flip(data, labels)}; writing to {folder}/")
        if checkpoint:
            for warning in damaged:
                log.say(f"warning: {warning}")
            log.say(f"resumed {checkpoint} after epoch {start.epoch}, step {start.step}, best {start.best:.2f}%")
        steps = len(loaders[0]) // args.accumulate
        schedule = partial(learning_rate, lr=args.lr, steps_per_epoch=steps, epochs=args.epochs, scheduler=args.lr_scheduler,
                           lr_steps=args.lr_steps, decay_rate=args.lr_decay_rate, warmup_epochs=args.warmup_epoch,
                           warmup_multiplier=args.warmup_multiplier, min_lr=args.min_lr)
        best = training.fit(
            net, model, loaders, optimizer, world, log, folder=folder, epochs=args.epochs, start=start,
            learning_rate=schedule, save_every=args.save_every, keep=args.keep, amp=args.amp, scaler=scaler,
            eval_freq=args.eval_freq, recipe=recipe,
            batch_size=args.batch_size, class_names=names, accumulate=args.accumulate, clip_gradient=args.clip_gradient,
            seed=args.seed, print_freq=args.print_freq,
            clip_shape=(net.num_segments, net.frame_channels, net.input_size, net.input_size))
        log.say(f"finished: best {best:.2f}%, weights in {folder}/best.pth")


def make_loaders(args, data, lists, labels, net, world):
    """The training and the validation loader (without training, only the latter)."""
    common = {"num_segments": net.num_segments, "frames_per_segment": net.frames_per_segment, "image_tmpl": data.image_tmpl,
              "decoder": args.decoder, "crop_size": net.input_size, "seed": args.seed, "modality": args.modality,
              "compat": args.sampling_compat}
    finish = partial(make_loader, workers=args.workers, pin_memory=world.device.type == "cuda", timeout=args.timeout)
    loaders = []
    if "train" in lists:
        dataset = TrainDataset(lists["train"], flip_map=labels, sampling=args.sampling, **common)
        # Batches that are accumulated belong to one step: the sampler drops what does not fill it.
        sampler = TrainSampler(len(dataset), args.batch_size * args.accumulate, rank=world.rank,
                               world_size=world.size, seed=args.seed)
        loaders.append(finish(dataset, sampler, args.batch_size))
    sampling = {"uniform": "center", "dense": "dense"}[args.sampling]
    dataset = TestDataset(lists["val"], num_clips=1, scale_size=net.scale_size, sampling=sampling, **common)
    loaders.append(finish(dataset, ShardSampler(len(dataset), rank=world.rank, world_size=world.size), None))
    return loaders


def describe(args, net, world):
    """One line: the model and the effective batch."""
    total = world.size * args.batch_size * args.accumulate
    return (f"{checkpoints.describe(net.spec)} of {net.frames_per_segment} frames at {args.input_size}; "
            f"total batch {total} = {world.size} processes x {args.batch_size} videos x {args.accumulate} accumulated; "
            f"lr {args.lr:g}, {args.lr_policy}; {'partial' if args.partial_bn else 'full'} BN; {world.device}, amp {args.amp}")


if __name__ == "__main__":
    run_front(main)
