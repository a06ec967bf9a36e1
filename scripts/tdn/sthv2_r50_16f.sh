#!/usr/bin/env bash
# Trains and tests the recipe sthv2_r50_16f.toml, which names the published result.
source "$(dirname "$0")/../recipe.sh"
test=center_crop
print_results=true
run_recipe "$@"
