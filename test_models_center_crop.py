"""Score the videos of a list, one center crop each.

    python test_models_center_crop.py something --archs=resnet50 --weights best.pth \\
        --test_segments=8 --test_crops=1 --batch_size=16 --gpus 0 \\
        --output_dir scores/something -j 4 --clip_index=0
    python pkl_to_results.py --num_clips 1 --test_crops 1 --output_dir scores/something

It accepts the commands of TSM's test_models.py, and tests several networks at once:

    python test_models_center_crop.py kinetics \\
        --weights=TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e50.pth \\
        --test_segments=8 --batch_size=8 --test_crops=3 --dense_sample --full_res
    python test_models_center_crop.py something --weights=a.pth,b.pth --test_segments=8,16 \\
        --coeff=1,1.5 --csv_file out.csv

It writes OUTPUT_DIR/{clip_index}_crop{k}.pkl, a list in list order of
[float32 logits (1, classes), label].
"""

from ops.cli.test_args import testing_arguments
from ops.utils.errors import run_cli


def main():
    args = testing_arguments(__doc__, crops=1)
    from ops.testing.test import run  # imports torch, which --help does not need

    run(args)


if __name__ == "__main__":
    run_cli(main)
