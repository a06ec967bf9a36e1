#!/usr/bin/env bash
# Trains and tests the recipe k400_r50_flow_8f.toml, which names the published result.
source "$(dirname "$0")/../recipe.sh"
test=center_crop
run_recipe "$@"
