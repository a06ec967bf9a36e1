#!/usr/bin/env bash
# TSN-ResNet50, 8 frames, Kinetics-400, dense sampling (trained with 5 segments, tested with 8).
# Training: effective batch 128 = 8 processes x 16 videos, lr 0.02 (the recipe that is published for uniform sampling).
#   On G GPUs set GPUS=G and --accumulate 8/G, or --scale_lr; where memory is short halve --batch-size, double --accumulate.
# Expected: Prec@1 70.6 % with 8 frames x 10 clips x 3 crops, 256, dense (TSM's README).
#   bash scripts/tsn/k400_r50_8f_dense.sh train [flags of main.py]
#   bash scripts/tsn/k400_r50_8f_dense.sh test [flags of the test front, such as --weights FILE]
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"
run=runs/tsn_k400_r50_8f_dense
choose_mode "train test" "$@"
shift
case $mode in
train)
    torchrun --nproc_per_node "${GPUS:-8}" main.py kinetics RGB --module tsn --arch resnet50 --num_segments 5 \
        --dense_sample --lr 0.02 --lr_batch 128 --lr_type step --lr_steps 20 40 --epochs 50 --batch-size 16 --wd 1e-4 \
        --gd 20 --dropout 0.5 --npb -j 4 --output_dir $run --resume auto "$@"
    ;;
test)
    python test_models_three_crops.py kinetics --archs resnet50 --weights $run/best.pth --test_segments 8 --test_crops 3 \
        --full_res --dense_sample --output_dir $run/scores "$@"
    ;;
esac
