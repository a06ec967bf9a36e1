#!/usr/bin/env bash
# TSM-ResNet50, 8 frames, Kinetics-400, uniform sampling.
# Training: effective batch 128 = 8 processes x 16 videos, lr 0.02.
#   On G GPUs set GPUS=G and --accumulate 8/G, or --scale_lr; where memory is short halve --batch-size, double --accumulate.
# Expected: Prec@1 72.8 % with 8 frames x 1 clip x 10 crops, 224, and 71.2 % with 8 frames x 1 clip x 1 crop, 224 (TSM's
#   README).
#   bash scripts/tsm/k400_r50_8f.sh train [flags of main.py]
#   bash scripts/tsm/k400_r50_8f.sh test [flags of the test front, such as --weights FILE] ten crops
#   bash scripts/tsm/k400_r50_8f.sh test1 [...] one crop
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"
run=runs/tsm_k400_r50_8f
choose_mode "train test test1" "$@"
shift
case $mode in
train)
    torchrun --nproc_per_node "${GPUS:-8}" main.py kinetics RGB --module tsm --shift_div 8 --shift_place blockres \
        --arch resnet50 --num_segments 8 --lr 0.02 --lr_batch 128 --lr_type step --lr_steps 20 40 --epochs 50 \
        --batch-size 16 --wd 1e-4 --gd 20 --dropout 0.5 --npb -j 4 --output_dir $run --resume auto "$@"
    ;;
test)
    python test_models_center_crop.py kinetics --archs resnet50 --weights $run/best.pth --test_segments 8 --test_crops 10 \
        --test_sampling center --output_dir $run/scores "$@"
    ;;
test1)
    python test_models_center_crop.py kinetics --archs resnet50 --weights $run/best.pth --test_segments 8 --test_crops 1 \
        --test_sampling center --output_dir $run/scores1 "$@"
    ;;
esac
