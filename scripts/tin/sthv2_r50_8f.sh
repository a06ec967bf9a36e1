#!/usr/bin/env bash
# TIN-ResNet50, 8 frames, Something-Something V2, from ImageNet.
# Training: effective batch 48 = 8 processes x 6 videos, lr 0.02 (the recipe that is published for V1).
#   On G GPUs set GPUS=G and --accumulate 8/G, or --scale_lr; where memory is short halve --batch-size, double --accumulate.
# Expected: Prec@1 56.48 % with 8 frames x 1 clip x 1 crop, 224 (MMAction2's run of TIN's code). TIN's README has no number.
#   bash scripts/tin/sthv2_r50_8f.sh train [flags of main.py]
#   bash scripts/tin/sthv2_r50_8f.sh test [flags of the test front, such as --weights FILE]
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"
run=runs/tin_sthv2_r50_8f
choose_mode "train test" "$@"
shift
case $mode in
train)
    torchrun --nproc_per_node "${GPUS:-8}" main.py somethingv2 RGB --module tin --shift_div 4 --arch resnet50 \
        --num_segments 8 --lr 0.02 --lr_batch 48 --lr_scheduler cosine --warmup_epoch 1 --warmup_multiplier 10 \
        --min_lr 0 --epochs 40 --batch-size 6 --wd 5e-4 --gd 20 --dropout 0.8 --flip none -j 4 --output_dir $run \
        --resume auto "$@"
    ;;
test)
    python test_models_center_crop.py somethingv2 --archs resnet50 --weights $run/best.pth --test_segments 8 --test_crops 1 \
        --test_sampling center --average softmax --output_dir $run/scores "$@"
    ;;
esac
