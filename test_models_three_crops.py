"""Score the videos of a list, three crops each (or 1, 5, 10), one clip or all clips per run.

    for clip in 0 1 2 3 4 5 6 7 8 9; do
        python test_models_three_crops.py kinetics --archs=resnet50 --weights best.pth \\
            --test_segments=8 --test_crops=3 --batch_size=16 --full_res --gpus 0 \\
            --output_dir scores/kinetics -j 4 --clip_index $clip
    done
    python pkl_to_results.py --num_clips 10 --test_crops 3 --output_dir scores/kinetics

With --clips 10 in place of the loop, one run scores the same ten clips and decodes each video once.

It writes OUTPUT_DIR/{clip_index}_crop{k}.pkl, a list in list order of
[float32 logits (1, classes), label].
"""

from ops.cli.test_args import testing_arguments
from ops.utils.errors import run_cli


def main():
    args = testing_arguments(__doc__, crops=3)
    from ops.testing.test import run  # imports torch, which --help does not need

    run(args)


if __name__ == "__main__":
    run_cli(main)
