#!/usr/bin/env bash
# TDN-ResNet50, 8 frames, Something-Something V2.
# Training: effective batch 64 = 8 processes x 8 videos, lr 0.01.
#   On G GPUs set GPUS=G and --accumulate 8/G, or --scale_lr; where memory is short halve --batch-size, double --accumulate.
# Expected: Prec@1 64.0 % with 8 frames x 1 crop x 1 clip, 224 (TDN's README).
#   bash scripts/tdn/sthv2_r50_8f.sh train [flags of main.py]
#   bash scripts/tdn/sthv2_r50_8f.sh test [flags of the test front, such as --weights released.pth.tar]
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"
run=runs/tdn_sthv2_r50_8f
choose_mode "train test" "$@"
shift
case $mode in
train)
    torchrun --nproc_per_node "${GPUS:-8}" main.py somethingv2 RGB --module tdn --arch resnet50 --num_segments 8 \
        --lr 0.01 --lr_batch 64 --lr_scheduler step --lr_steps 30 45 55 --epochs 60 --batch-size 8 --wd 5e-4 --gd 20 \
        --dropout 0.5 --npb -j 4 --output_dir $run --resume auto "$@"
    ;;
test)
    python test_models_center_crop.py somethingv2 --archs resnet50 --weights $run/best.pth --test_segments 8 \
        --test_crops 1 --output_dir $run/scores "$@"
    [[ " $* " == *" --dry_run "* ]] || python pkl_to_results.py --num_clips 1 --test_crops 1 \
        --output_dir "$(output_dir $run/scores "$@")"
    ;;
esac
