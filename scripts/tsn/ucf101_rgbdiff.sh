#!/usr/bin/env bash
# TSN-BNInception, RGB differences, UCF101; the split is in the environment (SPLIT=1, 2 or 3).
# Training: effective batch 128 = 8 processes x 16 videos, lr 0.001.
#   On G GPUs set GPUS=G and --accumulate 8/G, or --scale_lr; where memory is short halve --batch-size, double --accumulate.
# No number is published in tsn-pytorch's README for this row. Its test is 25 frames x 1 clip x 10 crops, 224, and what it
#   reports is the mean class accuracy ("Class Accuracy").
# ImageNet weights of BNInception are not torchvision's: PRETRAIN names the file (pretrained/bn_inception.pth if not set).
#   SPLIT=1 bash scripts/tsn/ucf101_rgbdiff.sh train [flags of main.py]
#   SPLIT=1 bash scripts/tsn/ucf101_rgbdiff.sh test [flags of the test front, such as --weights FILE]
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"
split=${SPLIT:-1}
[[ $split == [123] ]] || { echo "error: $0: SPLIT=$split is not 1, 2 or 3" >&2; exit 2; }
lists=data/ucf101/file_list/ucf101_rgb
pretrain=${PRETRAIN:-pretrained/bn_inception.pth}
run=runs/tsn_ucf101_rgbdiff_split$split
choose_mode "train test" "$@"
shift
case $mode in
train)
    torchrun --nproc_per_node "${GPUS:-8}" main.py ucf101 RGBDiff --train_list ${lists}_train_split_$split.txt \
        --val_list ${lists}_val_split_$split.txt --module tsn --arch BNInception --pretrain "$pretrain" \
        --num_segments 7 --lr 0.001 --lr_batch 128 --lr_scheduler step --lr_steps 80 160 --epochs 180 --batch-size 16 \
        --wd 5e-4 --gd 40 --dropout 0.8 --partial_bn --no-fc_lr5 -j 4 --output_dir $run --resume auto "$@"
    ;;
test)
    python test_models_center_crop.py ucf101 --val_list ${lists}_val_split_$split.txt --archs BNInception --modality RGBDiff \
        --weights $run/best.pth --test_segments 25 --test_crops 10 --test_sampling center --batch_size 1 \
        --output_dir $run/scores "$@"
    ;;
esac
