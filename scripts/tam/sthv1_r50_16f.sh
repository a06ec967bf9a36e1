#!/usr/bin/env bash
# TAM-ResNet50 (TANet), 16 frames, Something-Something V1.
# Training: effective batch 64 = 8 processes x 8 videos, lr 0.01 (published for 8 frames).
# Expected: Prec@1 47.6 % with 16 frames x 1 crop x 1 clip, 224 (TAM's README).
source "$(dirname "$0")/../recipe.sh"
train=(something RGB --module tam --arch resnet50 --num_segments 16 --lr 0.01 --lr_batch 64
    --lr_type step --lr_steps 30 40 45 --epochs 50 --batch-size 8 --wd 1e-3 --gd 20 --dropout 0.6
    --npb --flip none)
test=(center_crop something --archs resnet50 --weights $run/best.pth --test_segments 16
    --test_crops 1 --sample uniform-1)
run_recipe "$@"
