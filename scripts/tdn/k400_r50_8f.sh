#!/usr/bin/env bash
# Trains and tests the recipe k400_r50_8f.toml, which names the published result.
source "$(dirname "$0")/../recipe.sh"
test=three_crops
test1=center_crop
print_results=true
run_recipe "$@"
