#!/usr/bin/env bash
# Trains and tests the recipe k400_mobilenetv2_8f_dense.toml, which names the published result.
source "$(dirname "$0")/../recipe.sh"
test=three_crops
run_recipe "$@"
