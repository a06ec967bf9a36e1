#!/usr/bin/env bash
# TSM-ResNet50, 8 frames, Kinetics-400, dense sampling.
# Training: effective batch 128 = 8 processes x 16 videos, lr 0.02 (published for uniform
#   sampling). 100 epochs, after the name of the released file; its steps are not published, here
#   those of 50 epochs, doubled.
# Expected: Prec@1 74.1 % with 8 frames x 3 crops x 10 clips, 256, dense (TSM's README).
source "$(dirname "$0")/../recipe.sh"
train=(kinetics RGB --module tsm --shift_div 8 --shift_place blockres --arch resnet50
    --num_segments 8 --dense_sample --lr 0.02 --lr_batch 128 --lr_type step --lr_steps 40 80
    --epochs 100 --batch-size 16 --wd 1e-4 --gd 20 --dropout 0.5 --npb)
test=(three_crops kinetics --archs resnet50 --weights $run/best.pth --test_segments 8
    --test_crops 3 --full_res --dense_sample)
run_recipe "$@"
