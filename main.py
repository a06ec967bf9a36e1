"""Train or evaluate a video model.

    python main.py something RGB --module tdn --arch resnet50 --num_segments 8 --gd 20 --lr 0.01 \\
        --lr_steps 30 45 55 --epochs 60 --batch-size 8 --wd 5e-4 --dropout 0.5 -j 4
    torchrun --nproc_per_node 8 main.py something RGB ...    eight GPUs; --batch-size is per process
    python main.py mine.toml RGB ...                         data of your own (docs/data.md)

    python main.py --config scripts/tdn/sthv1_r50_8f.toml    a recipe from a file

Writes to --output_dir: args.json, args.toml, log.txt, log.jsonl, tensorboard/, last.pth and
best.pth. The same command with --resume auto resumes a stopped run. A folder that contains a
training is refused unless --resume or --overwrite is given.
"""

from ops.cli.train_args import args_toml, fixed_options, parse_training
from ops.utils.errors import run_cli


def main():
    args, notes = parse_training(__doc__)
    from ops.training.train import run  # imports torch, which --help does not need

    run(args, notes, fixed_options(), args_toml)


if __name__ == "__main__":
    run_cli(main)
