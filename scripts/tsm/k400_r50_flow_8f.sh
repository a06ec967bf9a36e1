#!/usr/bin/env bash
# TSM-ResNet50, optical flow, 8 frames of 5 flows each, Kinetics-400, uniform sampling.
# Training: effective batch 128 = 8 processes x 16 videos, lr 0.02 (the recipe that is published for RGB).
#   On G GPUs set GPUS=G and --accumulate 8/G, or --scale_lr; where memory is short halve --batch-size, double --accumulate.
# Expected: Prec@1 55.7 %, Prec@5 79.5 % with 8 frames x 1 clip x 1 crop, 224 (TSM's README: one number, taken as that of one
#   crop).
# The flow of Kinetics has no usual place: give --root_path, --train_list and --val_list if it is not where this script says.
#   bash scripts/tsm/k400_r50_flow_8f.sh train [flags of main.py]
#   bash scripts/tsm/k400_r50_flow_8f.sh test [flags of the test front, such as --weights FILE]
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"
flow=(--image_tmpl "flow_{}_{:05d}.jpg" --root_path data/kinetics/flow
    --val_list data/kinetics/labels/val_videofolder_flow.txt)
run=runs/tsm_k400_r50_flow_8f
choose_mode "train test" "$@"
shift
case $mode in
train)
    torchrun --nproc_per_node "${GPUS:-8}" main.py kinetics Flow "${flow[@]}" \
        --train_list data/kinetics/labels/train_videofolder_flow.txt --module tsm --shift_div 8 \
        --shift_place blockres --arch resnet50 --num_segments 8 --lr 0.02 --lr_batch 128 --lr_type step \
        --lr_steps 20 40 --epochs 50 --batch-size 16 --wd 1e-4 --gd 20 --dropout 0.5 --npb -j 4 --output_dir $run \
        --resume auto "$@"
    ;;
test)
    python test_models_center_crop.py kinetics "${flow[@]}" --archs resnet50 --modality Flow --weights $run/best.pth \
        --test_segments 8 --test_crops 1 --test_sampling center --output_dir $run/scores "$@"
    ;;
esac
