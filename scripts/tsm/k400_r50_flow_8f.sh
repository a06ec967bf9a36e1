#!/usr/bin/env bash
# TSM-ResNet50, optical flow, 8 frames of 5 flows each, Kinetics-400, uniform sampling.
# Training: effective batch 128 = 8 processes x 16 videos, lr 0.02 (published for RGB).
# Expected: Prec@1 55.7 %, Prec@5 79.5 % with 8 frames x 1 crop x 1 clip, 224 (TSM's README gives
#   one number, here read as that of one crop).
# Optical flow of Kinetics has no usual location: pass --root_path, --train_list and --val_list if
#   yours is elsewhere.
source "$(dirname "$0")/../recipe.sh"
train=(kinetics Flow --image_tmpl "flow_{}_{:05d}.jpg" --root_path data/kinetics/flow
    --val_list data/kinetics/labels/val_videofolder_flow.txt
    --train_list data/kinetics/labels/train_videofolder_flow.txt --module tsm --shift_div 8
    --shift_place blockres --arch resnet50 --num_segments 8 --lr 0.02 --lr_batch 128 --lr_type step
    --lr_steps 20 40 --epochs 50 --batch-size 16 --wd 1e-4 --gd 20 --dropout 0.5 --npb)
test=(center_crop kinetics --image_tmpl "flow_{}_{:05d}.jpg" --root_path data/kinetics/flow
    --val_list data/kinetics/labels/val_videofolder_flow.txt --archs resnet50 --modality Flow
    --weights $run/best.pth --test_segments 8 --test_crops 1 --test_sampling center)
run_recipe "$@"
