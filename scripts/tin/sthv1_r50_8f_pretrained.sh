#!/usr/bin/env bash
# TIN-ResNet50, 8 frames, Something-Something V1, from weights of another dataset (here
#   Kinetics-400).
# Training: effective batch 48 = 8 processes x 6 videos, lr 0.008, one epoch of warm-up (TIN's
#   README).
# No number is published for this start. From ImageNet it is 44.04 % with 8 frames x 1 crop x 1
#   clip, 224 (MMAction2's run of TIN's code).
# TIN's train_tin.sh uses other values: --epochs 36 --lr_scheduler cosine --warmup_epoch 1
#   --warmup_multiplier 10 --min_lr 0.
source "$(dirname "$0")/../recipe.sh"
train=(something RGB --module tin --shift_div 4 --arch resnet50 --num_segments 8
    --tune_from runs/tin_k400_r50_8f/best.pth --lr 0.008 --lr_batch 48 --lr_type step
    --lr_steps 10 20 30 --warmup_epoch 1 --warmup_multiplier 10 --epochs 40 --batch-size 6
    --wd 5e-4 --gd 20 --dropout 0.8 --flip none)
test=(center_crop something --archs resnet50 --weights $run/best.pth --test_segments 8
    --test_crops 1 --test_sampling center --average softmax)
run_recipe "$@"
