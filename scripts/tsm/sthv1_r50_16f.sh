#!/usr/bin/env bash
# Trains and tests the recipe sthv1_r50_16f.toml, which names the published result.
source "$(dirname "$0")/../recipe.sh"
test=three_crops
test1=center_crop
run_recipe "$@"
