# Sourced by the scripts of the tables: goes to the repository's root and finds the Python that has PyTorch.
#   choose_mode "MODES" [ARGUMENTS]     sets mode to the first argument, or ends the script with its usage
#   output_dir DEFAULT [FLAGS]          prints the --output_dir of FLAGS, or DEFAULT
#   member_dir DEFAULT NAME [FLAGS]     the same for one network of an ensemble: --output_dir/NAME, or DEFAULT
#   refuse_weights [FLAGS]              ends the script of an ensemble if FLAGS name the weights of one network
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# An activated environment comes first; without one, the .venv of scripts/quickstart.sh is used.
if ! command -v torchrun >/dev/null && [ -x .venv/bin/torchrun ]; then
    export PATH="$PWD/.venv/bin:$PATH"
fi
if ! command -v torchrun >/dev/null; then
    echo "error: torchrun not found; activate the environment that has PyTorch (README, Install)" >&2
    exit 2
fi

choose_mode() {
    local modes=$1 known
    mode=${2-}
    for known in $modes; do
        [ "$mode" != "$known" ] || return 0
    done
    echo "usage: bash $0 ${modes// / or } [flags]" >&2
    exit 2
}

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

member_dir() {
    local default=$1 name=$2 folder
    shift 2
    folder=$(output_dir "" "$@")
    printf '%s' "${folder:+$folder/$name}"
    [ -n "$folder" ] || printf '%s' "$default"
}

refuse_weights() {
    local flag
    for flag in "$@"; do
        case $flag in
        --weights | --weights=*)
            echo "error: $0: an ensemble has two networks; give --weights to the script of each," \
                "then combine their folders with pkl_to_results.py" >&2
            exit 2
            ;;
        esac
    done
}
