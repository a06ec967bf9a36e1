#!/usr/bin/env bash
# TSN-ResNet50, 8 frames, Kinetics-400, dense sampling (trained with 5 segments, tested with 8).
# Training: effective batch 128 = 8 processes x 16 videos, lr 0.02 (published for uniform
#   sampling).
# Expected: Prec@1 70.6 % with 8 frames x 3 crops x 10 clips, 256, dense (TSM's README).
source "$(dirname "$0")/../recipe.sh"
train=(kinetics RGB --module tsn --arch resnet50 --num_segments 5 --dense_sample --lr 0.02
    --lr_batch 128 --lr_type step --lr_steps 20 40 --epochs 50 --batch-size 16 --wd 1e-4 --gd 20
    --dropout 0.5 --npb)
test=(three_crops kinetics --archs resnet50 --weights $run/best.pth --test_segments 8
    --test_crops 3 --full_res --dense_sample)
run_recipe "$@"
