#!/usr/bin/env bash
# TAM-ResNet50 (TANet), 8 frames, Kinetics-400, dense sampling.
# Training: effective batch 64 = 8 processes x 8 videos, lr 0.01 (the 8 of TAM's script is per
#   GPU, as in MMAction2).
# Expected: Prec@1 76.1 % with 8 frames x 3 crops x 10 clips, 256, dense (TAM's README).
source "$(dirname "$0")/../recipe.sh"
train=(kinetics RGB --module tam --arch resnet50 --num_segments 8 --dense_sample --lr 0.01
    --lr_batch 64 --lr_type step --lr_steps 50 75 90 --epochs 100 --batch-size 8 --wd 1e-4 --gd 20
    --dropout 0.5 --npb)
test=(three_crops kinetics --archs resnet50 --weights $run/best.pth --test_segments 8
    --test_crops 3 --full_res --sample dense-10)
run_recipe "$@"
