#!/usr/bin/env bash
# TDN-ResNet101, 16 frames, Something-Something V1.
# Training: effective batch 64 = 8 processes x 8 videos, lr 0.01 (published for ResNet-50 with 8
#   frames).
# No number is published in TDN's README for this network. The test is 16 frames x 1 crop x 1
#   clip, 224.
source "$(dirname "$0")/../recipe.sh"
train=(something RGB --module tdn --arch resnet101 --num_segments 16 --lr 0.01 --lr_batch 64
    --lr_scheduler step --lr_steps 30 45 55 --epochs 60 --batch-size 8 --wd 5e-4 --gd 20
    --dropout 0.5 --npb)
test=(center_crop something --archs resnet101 --weights $run/best.pth --test_segments 16
    --test_crops 1)
results=(--num_clips 1 --test_crops 1)
run_recipe "$@"
