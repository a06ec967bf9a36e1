#!/usr/bin/env bash
# TAM-ResNet50 (TANet), 16 frames, Kinetics-400, dense sampling.
# Training: effective batch 64 = 8 processes x 8 videos, lr 0.01 (published for 8 frames).
# Expected: Prec@1 76.9 % with 16 frames x 3 crops x 10 clips, 256, dense (TAM's README).
source "$(dirname "$0")/../recipe.sh"
train=(kinetics RGB --module tam --arch resnet50 --num_segments 16 --dense_sample --lr 0.01
    --lr_batch 64 --lr_type step --lr_steps 50 75 90 --epochs 100 --batch-size 8 --wd 1e-4 --gd 20
    --dropout 0.5 --npb)
test=(three_crops kinetics --archs resnet50 --weights $run/best.pth --test_segments 16
    --test_crops 3 --full_res --sample dense-10)
run_recipe "$@"
