#!/usr/bin/env bash
# TDN-ResNet101, 8 + 16 frames, Kinetics-400: the mean of two models' class probabilities.
# No number is published in TDN's README for this row.
# Nothing to train: tests the networks of the 8- and 16-frame scripts (effective batch: theirs).
source "$(dirname "$0")/../recipe.sh"
networks=(8f:tdn/k400_r101_8f 16f:tdn/k400_r101_16f)
test_networks "$@"
python pkl_to_results.py --num_clips 10 --test_crops 3 --multi_segments \
    --output_dir "${folders[0]}" --output_dir1 "${folders[1]}"
