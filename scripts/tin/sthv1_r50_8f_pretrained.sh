#!/usr/bin/env bash
# TIN-ResNet50, 8 frames, Something-Something V1, from a network of another data set (here Kinetics-400).
# Training: effective batch 48 = 8 processes x 6 videos, lr 0.008, one epoch of warm-up (TIN's README).
#   On G GPUs set GPUS=G and --accumulate 8/G, or --scale_lr; where memory is short halve --batch-size, double --accumulate.
# No number is published for this start. From ImageNet it is 44.04 % with 8 frames x 1 clip x 1 crop, 224 (MMAction2's run of
#   TIN's code).
# TIN's train_tin.sh does otherwise: --epochs 36 --lr_scheduler cosine --warmup_epoch 1 --warmup_multiplier 10 --min_lr 0.
#   bash scripts/tin/sthv1_r50_8f_pretrained.sh train [flags of main.py, such as --tune_from FILE]
#   bash scripts/tin/sthv1_r50_8f_pretrained.sh test [flags of the test front, such as --weights FILE]
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"
run=runs/tin_sthv1_r50_8f_pretrained
choose_mode "train test" "$@"
shift
case $mode in
train)
    torchrun --nproc_per_node "${GPUS:-8}" main.py something RGB --module tin --shift_div 4 --arch resnet50 \
        --num_segments 8 --tune_from runs/tin_k400_r50_8f/best.pth --lr 0.008 --lr_batch 48 --lr_type step \
        --lr_steps 10 20 30 --warmup_epoch 1 --warmup_multiplier 10 --epochs 40 --batch-size 6 --wd 5e-4 --gd 20 \
        --dropout 0.8 --flip none -j 4 --output_dir $run --resume auto "$@"
    ;;
test)
    python test_models_center_crop.py something --archs resnet50 --weights $run/best.pth --test_segments 8 --test_crops 1 \
        --test_sampling center --average softmax --output_dir $run/scores "$@"
    ;;
esac
