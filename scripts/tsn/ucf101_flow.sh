#!/usr/bin/env bash
# Trains and tests the recipe ucf101_flow.toml, which names the published result.
source "$(dirname "$0")/../recipe.sh"
use_split
test=center_crop
run_recipe "$@"
