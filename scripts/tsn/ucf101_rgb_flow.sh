#!/usr/bin/env bash
# TSN-BNInception, two streams, UCF101: RGB and optical flow, scores weighted 1 : 1.5 as in the
#   README of TSN (Caffe).
# No number is published in tsn-pytorch's README for this row. Each stream is 25 frames x 10 crops
#   x 1 clip, 224.
# Nothing to train: tests the networks of the RGB and the flow scripts (effective batch: theirs).
source "$(dirname "$0")/../recipe.sh"
use_split
networks=(rgb:tsn/ucf101_rgb flow:tsn/ucf101_flow)
test_networks "$@"
python pkl_to_results.py "${folders[@]}" --score_weights 1 1.5
