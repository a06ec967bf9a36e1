#!/usr/bin/env bash
# Trains and tests the recipe k400_r50_16f_dense.toml, which names the published result.
source "$(dirname "$0")/../recipe.sh"
test=three_crops
run_recipe "$@"
