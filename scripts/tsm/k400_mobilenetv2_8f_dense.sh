#!/usr/bin/env bash
# TSM-MobileNetV2, 8 frames, Kinetics-400, dense sampling.
# Training: effective batch 128 = 8 processes x 16 videos, lr 0.02 (MMAction2's recipe, sampled densely; TSM's is unknown).
#   On G GPUs set GPUS=G and --accumulate 8/G, or --scale_lr; where memory is short halve --batch-size, double --accumulate.
# Expected: Prec@1 69.5 % with 8 frames x 10 clips x 3 crops, 256, dense (TSM's README).
#   bash scripts/tsm/k400_mobilenetv2_8f_dense.sh train [flags of main.py]
#   bash scripts/tsm/k400_mobilenetv2_8f_dense.sh test [flags of the test front, such as --weights FILE]
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"
run=runs/tsm_k400_mobilenetv2_8f_dense
choose_mode "train test" "$@"
shift
case $mode in
train)
    torchrun --nproc_per_node "${GPUS:-8}" main.py kinetics RGB --module tsm --shift_div 8 --shift_place blockres \
        --arch mobilenetv2 --num_segments 8 --dense_sample --lr 0.02 --lr_batch 128 --lr_type step --lr_steps 40 80 \
        --epochs 100 --batch-size 16 --wd 2e-5 --gd 20 --dropout 0.5 --npb -j 4 --output_dir $run --resume auto "$@"
    ;;
test)
    python test_models_three_crops.py kinetics --archs mobilenetv2 --weights $run/best.pth --test_segments 8 --test_crops 3 \
        --full_res --dense_sample --output_dir $run/scores "$@"
    ;;
esac
