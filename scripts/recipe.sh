# Sourced by the scripts of the published tables. Such a script holds the numbers of one row:
#   train=(...)    arguments of main.py
#   test=(...)     center_crop or three_crops, then the arguments of that test script
#   test1=(...)    the same for a second protocol
#   results=(...)  arguments of pkl_to_results.py after test (results1: after test1), where the
#                  authors compute the result with it
#   processes=8    processes of the training
# and hands over to run_recipe, which understands
#   bash scripts/tsm/sthv1_r50_8f.sh train [flags of main.py]
#   bash scripts/tsm/sthv1_r50_8f.sh test [flags of the test script, such as --weights FILE]
# On G GPUs set GPUS=G and --accumulate 8/G, or --scale_lr; if memory is short, halve --batch-size
# and double --accumulate.
# tools/doctor.py reads the arrays as text: only $run, $split and $pretrain are replaced in them.
set -euo pipefail

script=$0
folder=$(cd "$(dirname "$0")" && pwd)
name=${0##*/}
run=runs/${folder##*/}_${name%.sh}
suffix=
pretrain=${PRETRAIN:-pretrained/bn_inception.pth}
processes=8
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# An activated environment comes first; without one, the .venv of scripts/quickstart.sh is used.
if ! command -v torchrun >/dev/null && [ -x .venv/bin/torchrun ]; then
    export PATH="$PWD/.venv/bin:$PATH"
fi
if ! command -v torchrun >/dev/null; then
    echo "error: torchrun not found; activate the environment with PyTorch (README, Install)" >&2
    exit 2
fi

# use_split: one run per split of UCF101, chosen with SPLIT=1, 2 or 3 in the environment
use_split() {
    split=${SPLIT:-1}
    if [[ $split != [123] ]]; then
        echo "error: $script: SPLIT=$split is not 1, 2 or 3" >&2
        exit 2
    fi
    suffix=_split$split
    run=$run$suffix
}

# run_recipe MODE [FLAGS]: trains or tests
run_recipe() {
    local mode=${1:-}
    shift $(($# > 0))
    case $mode in
    train)
        torchrun --nproc_per_node "${GPUS:-$processes}" main.py "${train[@]}" \
            -j 4 --output_dir "$run" --resume auto "$@"
        return
        ;;
    test)
        run_test "${test[@]}" --output_dir "$run/scores" "$@"
        if [ -n "${results+set}" ] && ! is_dry_run "$@"; then
            python pkl_to_results.py "${results[@]}" \
                --output_dir "$(output_dir "$run/scores" "$@")"
        fi
        return
        ;;
    test1)
        if [ -n "${test1+set}" ]; then
            run_test "${test1[@]}" --output_dir "$run/scores1" "$@"
            if [ -n "${results1+set}" ] && ! is_dry_run "$@"; then
                python pkl_to_results.py "${results1[@]}" \
                    --output_dir "$(output_dir "$run/scores1" "$@")"
            fi
            return
        fi
        ;;
    esac
    local modes="train or test"
    if [ -n "${test1+set}" ]; then
        modes="train, test or test1"
    fi
    echo "usage: bash $script $modes [flags]" >&2
    exit 2
}

# run_test SCRIPT [FLAGS]: SCRIPT is center_crop or three_crops
run_test() {
    local protocol=$1
    shift
    python "test_models_$protocol.py" "$@"
}

is_dry_run() {
    [[ " $* " == *" --dry_run "* ]]
}

# output_dir DEFAULT [FLAGS]: prints the --output_dir of FLAGS, or DEFAULT
output_dir() {
    local folder=$1
    shift
    while [ $# -gt 0 ]; do
        case $1 in
        --output_dir) folder=${2:-$folder} ;;
        --output_dir=*) folder=${1#--output_dir=} ;;
        esac
        shift
    done
    printf '%s' "$folder"
}

# network_dir DEFAULT NAME [FLAGS]: the folder of one network of an ensemble: NAME inside the
# --output_dir of FLAGS, or DEFAULT
network_dir() {
    local default=$1 name=$2 folder
    shift 2
    folder=$(output_dir "" "$@")
    if [ -n "$folder" ]; then
        printf '%s' "$folder/$name"
    else
        printf '%s' "$default"
    fi
}

# test_networks [FLAGS]: tests each of networks=(NAME:SCRIPT ...) and lists their score folders
# in folders; a dry run ends there
test_networks() {
    refuse_weights "$@"
    local network name script folder
    folders=()
    for network in "${networks[@]}"; do
        name=${network%%:*}
        script=${network#*:}
        folder=$(network_dir "runs/${script/\//_}$suffix/scores" "$name" "$@")
        folders+=("$folder")
        bash "scripts/$script.sh" test "$@" --output_dir "$folder"
    done
    if is_dry_run "$@"; then
        exit
    fi
}

# refuse_weights [FLAGS]: an ensemble has no single file of weights
refuse_weights() {
    local flag
    for flag in "$@"; do
        case $flag in
        --weights | --weights=*)
            echo "error: $script: an ensemble has two networks; give --weights to the script of" \
                "each, then combine their folders with pkl_to_results.py" >&2
            exit 2
            ;;
        esac
    done
}
