#!/usr/bin/env bash
# TDN-ResNet101, 8 + 16 frames, three crops, Something-Something V2: the mean of two models' class probabilities.
# Expected: Prec@1 69.6 % with (8+16) frames x 3 crops x 1 clip (TDN's README).
# Nothing to train: it wants the checkpoints of the 8- and 16-frame rows (effective batches are given there).
#   bash scripts/tdn/sthv2_r101_8f16f_3crops.sh [flags of the test front]
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"
refuse_weights "$@"
for frames in 8 16; do
    run=runs/tdn_sthv2_r101_${frames}f
    python test_models_three_crops.py somethingv2 --archs resnet101 --weights $run/best.pth --test_segments $frames \
        --test_crops 3 --full_res "$@" --output_dir "$(member_dir $run/scores3 ${frames}f "$@")"
done
[[ " $* " == *" --dry_run "* ]] || python pkl_to_results.py --num_clips 1 --test_crops 3 --multi_segments \
    --output_dir "$(member_dir runs/tdn_sthv2_r101_8f/scores3 8f "$@")" \
    --output_dir1 "$(member_dir runs/tdn_sthv2_r101_16f/scores3 16f "$@")"
