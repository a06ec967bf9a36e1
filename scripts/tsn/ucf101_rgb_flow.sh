#!/usr/bin/env bash
# TSN-BNInception, two streams, UCF101: RGB and optical flow, scores weighted 1 : 1.5 as in the README of TSN (Caffe).
# No number is published in tsn-pytorch's README for this row. Each stream is 25 frames x 1 clip x 10 crops, 224.
# Nothing to train: it wants the checkpoints of the RGB and the flow row (effective batches are given there).
#   SPLIT=1 bash scripts/tsn/ucf101_rgb_flow.sh [flags of the test front]
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"
refuse_weights "$@"
split=${SPLIT:-1}
for stream in rgb flow; do
    bash scripts/tsn/ucf101_$stream.sh test "$@" \
        --output_dir "$(member_dir runs/tsn_ucf101_${stream}_split$split/scores $stream "$@")"
done
[[ " $* " == *" --dry_run "* ]] || python pkl_to_results.py \
    "$(member_dir runs/tsn_ucf101_rgb_split$split/scores rgb "$@")" \
    "$(member_dir runs/tsn_ucf101_flow_split$split/scores flow "$@")" --score_weights 1 1.5
