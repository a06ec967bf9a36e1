#!/usr/bin/env bash
# TIN-ResNet50, 8 frames, Kinetics-400, from TSM's weights of the same dataset.
# Training: effective batch 48 = 8 processes x 6 videos, lr 0.01 (MMAction2's recipe; TIN has none
#   for Kinetics-400).
# Expected: Prec@1 71.86 % with 8 frames x 1 crop x 1 clip, 224 (MMAction2's 1.x README; 70.89 %
#   in that of 0.x).
source "$(dirname "$0")/../recipe.sh"
train=(kinetics RGB --module tin --shift_div 4 --arch resnet50 --num_segments 8
    --tune_from runs/tsm_k400_r50_8f/best.pth --lr 0.01 --lr_batch 48 --lr_type step
    --lr_steps 20 40 --epochs 50 --batch-size 6 --wd 1e-4 --gd 40 --dropout 0.5 --npb)
test=(center_crop kinetics --archs resnet50 --weights $run/best.pth --test_segments 8
    --test_crops 1 --test_sampling center --average softmax)
run_recipe "$@"
