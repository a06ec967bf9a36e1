#!/usr/bin/env bash
# TDN-ResNet101, 8 + 16 frames, Something-Something V1: the mean of two models' class probabilities.
# No number is published in TDN's README for this row.
# Nothing to train: it wants the checkpoints of the 8- and 16-frame rows (effective batches are given there).
#   bash scripts/tdn/sthv1_r101_8f16f.sh [flags of the test front]
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"
refuse_weights "$@"
for frames in 8f 16f; do
    bash scripts/tdn/sthv1_r101_$frames.sh test "$@" \
        --output_dir "$(member_dir runs/tdn_sthv1_r101_$frames/scores $frames "$@")"
done
[[ " $* " == *" --dry_run "* ]] || python pkl_to_results.py --num_clips 1 --test_crops 1 --multi_segments \
    --output_dir "$(member_dir runs/tdn_sthv1_r101_8f/scores 8f "$@")" \
    --output_dir1 "$(member_dir runs/tdn_sthv1_r101_16f/scores 16f "$@")"
