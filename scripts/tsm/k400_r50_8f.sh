#!/usr/bin/env bash
# TSM-ResNet50, 8 frames, Kinetics-400, uniform sampling.
# Training: effective batch 128 = 8 processes x 16 videos, lr 0.02.
# Expected: Prec@1 72.8 % with 8 frames x 10 crops x 1 clip, 224, and 71.2 % with 8 frames x 1
#   crop x 1 clip, 224 (TSM's README).
source "$(dirname "$0")/../recipe.sh"
train=(kinetics RGB --module tsm --shift_div 8 --shift_place blockres --arch resnet50
    --num_segments 8 --lr 0.02 --lr_batch 128 --lr_type step --lr_steps 20 40 --epochs 50
    --batch-size 16 --wd 1e-4 --gd 20 --dropout 0.5 --npb)
test=(center_crop kinetics --archs resnet50 --weights $run/best.pth --test_segments 8
    --test_crops 10 --test_sampling center)
test1=(center_crop kinetics --archs resnet50 --weights $run/best.pth --test_segments 8
    --test_crops 1 --test_sampling center)
run_recipe "$@"
