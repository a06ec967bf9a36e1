#!/usr/bin/env bash
# TIN-ResNet50, 8 frames, Kinetics-400, from TSM's network of the same.
# Training: effective batch 48 = 8 processes x 6 videos, lr 0.01 (MMAction2's recipe; TIN has none for Kinetics-400).
#   On G GPUs set GPUS=G and --accumulate 8/G, or --scale_lr; where memory is short halve --batch-size, double --accumulate.
# Expected: Prec@1 71.86 % with 8 frames x 1 clip x 1 crop, 224 (MMAction2's 1.x README; 70.89 % in that of 0.x).
#   bash scripts/tin/k400_r50_8f.sh train [flags of main.py, such as --tune_from FILE]
#   bash scripts/tin/k400_r50_8f.sh test [flags of the test front, such as --weights FILE]
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"
run=runs/tin_k400_r50_8f
choose_mode "train test" "$@"
shift
case $mode in
train)
    torchrun --nproc_per_node "${GPUS:-8}" main.py kinetics RGB --module tin --shift_div 4 --arch resnet50 \
        --num_segments 8 --tune_from runs/tsm_k400_r50_8f/best.pth --lr 0.01 --lr_batch 48 --lr_type step \
        --lr_steps 20 40 --epochs 50 --batch-size 6 --wd 1e-4 --gd 40 --dropout 0.5 --npb -j 4 --output_dir $run \
        --resume auto "$@"
    ;;
test)
    python test_models_center_crop.py kinetics --archs resnet50 --weights $run/best.pth --test_segments 8 --test_crops 1 \
        --test_sampling center --average softmax --output_dir $run/scores "$@"
    ;;
esac
