#!/usr/bin/env bash
# TDN-ResNet101, 8 frames, Kinetics-400.
# Training: effective batch 128 = 8 processes x 16 videos, lr 0.02 (the recipe that is published for ResNet-50 with 8 frames).
#   On G GPUs set GPUS=G and --accumulate 8/G, or --scale_lr; where memory is short halve --batch-size, double --accumulate.
# Expected: Prec@1 77.5 % with 8 frames x 10 clips x 3 crops, 256 (TDN's README).
#   bash scripts/tdn/k400_r101_8f.sh train [flags of main.py]
#   bash scripts/tdn/k400_r101_8f.sh test [flags of the test front, such as --weights released.pth.tar] all 30 views
#   bash scripts/tdn/k400_r101_8f.sh test1 [...] one view, a quick look
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"
run=runs/tdn_k400_r101_8f
choose_mode "train test test1" "$@"
shift
case $mode in
train)
    torchrun --nproc_per_node "${GPUS:-8}" main.py kinetics RGB --module tdn --arch resnet101 --num_segments 8 \
        --lr 0.02 --lr_batch 128 --lr_scheduler step --lr_steps 50 75 90 --epochs 100 --batch-size 16 --wd 1e-4 \
        --gd 20 --dropout 0.5 --npb -j 4 --output_dir $run --resume auto "$@"
    ;;
test)
    python test_models_three_crops.py kinetics --archs resnet101 --weights $run/best.pth --test_segments 8 \
        --test_crops 3 --clips 10 --full_res --output_dir $run/scores "$@"
    [[ " $* " == *" --dry_run "* ]] || python pkl_to_results.py --num_clips 10 --test_crops 3 \
        --output_dir "$(output_dir $run/scores "$@")"
    ;;
test1)
    python test_models_center_crop.py kinetics --archs resnet101 --weights $run/best.pth --test_segments 8 --test_sampling center \
        --test_crops 1 --output_dir $run/scores1 "$@"
    [[ " $* " == *" --dry_run "* ]] || python pkl_to_results.py --num_clips 1 --test_crops 1 \
        --output_dir "$(output_dir $run/scores1 "$@")"
    ;;
esac
