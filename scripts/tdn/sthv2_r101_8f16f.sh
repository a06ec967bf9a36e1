#!/usr/bin/env bash
# TDN-ResNet101, 8 + 16 frames, Something-Something V2: the mean of two models' class
#   probabilities.
# Expected: Prec@1 68.2 % with (8+16) frames x 1 crop x 1 clip, 224 (TDN's README); 69.6 % with
#   three crops.
# Nothing to train: tests the networks of the 8- and 16-frame scripts (effective batch: theirs).
source "$(dirname "$0")/../recipe.sh"
networks=(8f:tdn/sthv2_r101_8f 16f:tdn/sthv2_r101_16f)
test_networks "$@"
python pkl_to_results.py --num_clips 1 --test_crops 1 --multi_segments \
    --output_dir "${folders[0]}" --output_dir1 "${folders[1]}"
