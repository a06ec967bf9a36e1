#!/usr/bin/env bash
# Trains and tests the recipe sthv2_r101_8f.toml, which names the published result.
source "$(dirname "$0")/../recipe.sh"
test=three_crops
test1=center_crop
run_recipe "$@"
