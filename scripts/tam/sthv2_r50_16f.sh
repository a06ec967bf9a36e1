#!/usr/bin/env bash
# TAM-ResNet50 (TANet), 16 frames, Something-Something V2.
# Training: effective batch 128 = 8 processes x 16 videos, lr 0.02 (published for 8 frames).
# Expected: Prec@1 64.6 % with 16 frames x 3 crops x 2 clips, 256 (TAM's README). No number is
#   published for 16 frames x 1 crop x 1 clip, 224.
source "$(dirname "$0")/../recipe.sh"
train=(somethingv2 RGB --module tam --arch resnet50 --num_segments 16 --lr 0.02 --lr_batch 128
    --lr_type step --lr_steps 30 40 45 --epochs 50 --batch-size 16 --wd 5e-4 --gd 20 --dropout 0.5
    --npb)
test=(three_crops somethingv2 --archs resnet50 --weights $run/best.pth --test_segments 16
    --test_crops 3 --full_res --sample uniform-2)
test1=(center_crop somethingv2 --archs resnet50 --weights $run/best.pth --test_segments 16
    --test_crops 1 --sample uniform-1)
run_recipe "$@"
