"""Score the videos of a list, one center crop each.

    python test_models_center_crop.py something --archs=resnet50 --weights best.pth --test_segments=8 --test_crops=1 \\
        --batch_size=16 --gpus 0 --output_dir scores/something -j 4 --clip_index=0
    python pkl_to_results.py --num_clips 1 --test_crops 1 --output_dir scores/something

Writes OUTPUT_DIR/{clip_index}_crop{k}.pkl, a list in list order of [float32 logits (1, classes), label].
"""
from ops.errors import run_front
from ops.testing import run
from ops.testing_options import testing_arguments


def main():
    run(testing_arguments(__doc__, crops=1))


if __name__ == "__main__":
    run_front(main)
