#!/usr/bin/env bash
# TDN-ResNet101, 8 + 16 frames, three crops, Something-Something V2: the mean of two models' class
#   probabilities.
# Expected: Prec@1 69.6 % with (8+16) frames x 3 crops x 1 clip (TDN's README).
# Nothing to train: tests the networks of the 8- and 16-frame scripts (effective batch: theirs).
source "$(dirname "$0")/../recipe.sh"
refuse_weights "$@"
folders=()
for frames in 8 16; do
    folder=$(network_dir "runs/tdn_sthv2_r101_${frames}f/scores3" "${frames}f" "$@")
    folders+=("$folder")
    python test_models_three_crops.py --config "scripts/tdn/sthv2_r101_${frames}f.toml" \
        --test_crops 3 --full_res "$@" --output_dir "$folder"
done
is_dry_run "$@" || python pkl_to_results.py --num_clips 1 --test_crops 3 --multi_segments \
    --output_dir "${folders[0]}" --output_dir1 "${folders[1]}"
