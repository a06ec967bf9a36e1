#!/usr/bin/env bash
# TIN-ResNet50, 8 frames, Something-Something V2, from ImageNet.
# Training: effective batch 48 = 8 processes x 6 videos, lr 0.02 (published for V1).
# Expected: Prec@1 56.48 % with 8 frames x 1 crop x 1 clip, 224 (MMAction2's run of TIN's code).
#   TIN's README has no number.
source "$(dirname "$0")/../recipe.sh"
train=(somethingv2 RGB --module tin --shift_div 4 --arch resnet50 --num_segments 8 --lr 0.02
    --lr_batch 48 --lr_scheduler cosine --warmup_epoch 1 --warmup_multiplier 10 --min_lr 0
    --epochs 40 --batch-size 6 --wd 5e-4 --gd 20 --dropout 0.8 --flip none)
test=(center_crop somethingv2 --archs resnet50 --weights $run/best.pth --test_segments 8
    --test_crops 1 --test_sampling center --average softmax)
run_recipe "$@"
