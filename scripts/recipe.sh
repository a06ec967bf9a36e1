# Sourced by the scripts of the published tables. Beside scripts/tsm/sthv1_r50_8f.sh is its recipe,
# sthv1_r50_8f.toml: the flags of main.py in [train] and those of the tests in [test] and [test1].
# The script names the programs:
#   test=center_crop      test script of [test]: center_crop or three_crops
#   test1=center_crop     that of [test1], for a second protocol
#   print_results=true    run pkl_to_results.py after a test, where the authors compute the result
#                         with it
# and hands over to run_recipe, which understands
#   bash scripts/tsm/sthv1_r50_8f.sh train [flags of main.py]
#   bash scripts/tsm/sthv1_r50_8f.sh test [flags of the test script, such as --weights FILE]
# On G GPUs set GPUS=G and --accumulate 8/G, or --scale_lr; if memory is short, halve --batch-size
# and double --accumulate.
set -euo pipefail

script=$0
folder=$(cd "$(dirname "$0")" && pwd)
name=${0##*/}
run=runs/${folder##*/}_${name%.sh}
recipe=scripts/${folder##*/}/${name%.sh}.toml
suffix=
processes=8
print_results=false
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# An activated environment comes first; without one, the .venv of scripts/quickstart.sh is used.
if ! command -v torchrun >/dev/null && [ -x .venv/bin/torchrun ]; then
    export PATH="$PWD/.venv/bin:$PATH"
fi
if ! command -v torchrun >/dev/null; then
    echo "error: torchrun not found; activate the environment with PyTorch (README, Install)" >&2
    exit 2
fi

# use_split: one run per split of UCF101, chosen with SPLIT=1, 2 or 3 in the environment, which the
# recipe reads as well
use_split() {
    export SPLIT=${SPLIT:-1}
    if [[ $SPLIT != [123] ]]; then
        echo "error: $script: SPLIT=$SPLIT is not 1, 2 or 3" >&2
        exit 2
    fi
    suffix=_split$SPLIT
    run=$run$suffix
}

# run_recipe MODE [FLAGS]: trains or tests
run_recipe() {
    local mode=${1:-}
    shift $(($# > 0))
    case $mode in
    train)
        torchrun --nproc_per_node "${GPUS:-$processes}" main.py --config "$recipe" \
            -j 4 --output_dir "$run" --resume auto "$@"
        return
        ;;
    test)
        run_test "$test" "$recipe" "$run/scores" "$@"
        return
        ;;
    test1)
        if [ -n "${test1:-}" ]; then
            run_test "$test1" "$recipe:test1" "$run/scores1" "$@"
            return
        fi
        ;;
    esac
    local modes="train or test"
    if [ -n "${test1:-}" ]; then
        modes="train, test or test1"
    fi
    echo "usage: bash $script $modes [flags]" >&2
    exit 2
}

# run_test SCRIPT CONFIG OUTPUT_DIR [FLAGS]: SCRIPT is center_crop or three_crops
run_test() {
    local protocol=$1 config=$2 folder=$3
    shift 3
    python "test_models_$protocol.py" --config "$config" --output_dir "$folder" "$@"
    if $print_results && ! is_dry_run "$@"; then
        python pkl_to_results.py --output_dir "$(output_dir "$folder" "$@")"
    fi
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
