#!/usr/bin/env bash
# TSN-BNInception, RGB differences, UCF101; SPLIT=1, 2 or 3 in the environment chooses the split.
# Training: effective batch 128 = 8 processes x 16 videos, lr 0.001.
# No number is published in tsn-pytorch's README for this row. Its test is 25 frames x 10 crops x
#   1 clip, 224, and reports the mean class accuracy.
# torchvision has no BNInception: PRETRAIN in the environment names the ImageNet weights (default
#   pretrained/bn_inception.pth).
source "$(dirname "$0")/../recipe.sh"
use_split
train=(ucf101 RGBDiff --train_list data/ucf101/file_list/ucf101_rgb_train_split_$split.txt
    --val_list data/ucf101/file_list/ucf101_rgb_val_split_$split.txt --module tsn
    --arch BNInception --pretrain "$pretrain" --num_segments 7 --lr 0.001 --lr_batch 128
    --lr_scheduler step --lr_steps 80 160 --epochs 180 --batch-size 16 --wd 5e-4 --gd 40
    --dropout 0.8 --partial_bn --no-fc_lr5)
test=(center_crop ucf101 --val_list data/ucf101/file_list/ucf101_rgb_val_split_$split.txt
    --archs BNInception --modality RGBDiff --weights $run/best.pth --test_segments 25
    --test_crops 10 --test_sampling center --batch_size 1)
run_recipe "$@"
