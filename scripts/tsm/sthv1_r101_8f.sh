#!/usr/bin/env bash
# TSM-ResNet101, 8 frames, Something-Something V1.
# Training: effective batch 64 = 8 processes x 8 videos, lr 0.01 (published for ResNet-50 with 8
#   frames).
# Expected: Prec@1 48.7 % with 8 frames x 3 crops x 2 clips, 256, and 46.9 % with 8 frames x 1
#   crop x 1 clip, 224 (TSM's README).
source "$(dirname "$0")/../recipe.sh"
train=(something RGB --module tsm --shift_div 8 --shift_place blockres --arch resnet101
    --num_segments 8 --lr 0.01 --lr_batch 64 --lr_type step --lr_steps 20 40 --epochs 50
    --batch-size 8 --wd 5e-4 --gd 20 --dropout 0.5 --npb --flip none)
test=(three_crops something --archs resnet101 --weights $run/best.pth --test_segments 8
    --test_crops 3 --full_res --twice_sample)
test1=(center_crop something --archs resnet101 --weights $run/best.pth --test_segments 8
    --test_crops 1 --test_sampling center)
run_recipe "$@"
