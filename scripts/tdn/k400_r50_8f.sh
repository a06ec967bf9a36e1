#!/usr/bin/env bash
# TDN-ResNet50, 8 frames, Kinetics-400.
# Training: effective batch 128 = 8 processes x 16 videos, lr 0.02.
# Expected: Prec@1 76.6 % with 8 frames x 3 crops x 10 clips, 256 (TDN's README).
# test1 is 8 frames x 1 crop x 1 clip, 224.
source "$(dirname "$0")/../recipe.sh"
train=(kinetics RGB --module tdn --arch resnet50 --num_segments 8 --lr 0.02 --lr_batch 128
    --lr_scheduler step --lr_steps 50 75 90 --epochs 100 --batch-size 16 --wd 1e-4 --gd 20
    --dropout 0.5 --npb)
test=(three_crops kinetics --archs resnet50 --weights $run/best.pth --test_segments 8
    --test_crops 3 --clips 10 --full_res)
results=(--num_clips 10 --test_crops 3)
test1=(center_crop kinetics --archs resnet50 --weights $run/best.pth --test_segments 8
    --test_sampling center --test_crops 1)
results1=(--num_clips 1 --test_crops 1)
run_recipe "$@"
