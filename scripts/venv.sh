# Sourced by the other scripts: changes to the root of the repository, creates .venv if absent, and
# puts it first on PATH.
#   install FILE   installs a requirements file into .venv at the exact tested versions of
#                  constraints.txt, unless these very files are already installed
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ ! -x .venv/bin/python ]; then
    if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "error: python3 must be 3.11 or newer" >&2
        exit 2
    fi
    echo "making .venv"
    python3 -m venv .venv
fi
export PATH="$PWD/.venv/bin:$PATH"

install() {
    local stamp=".venv/installed-$(echo "$1" | tr / -)"
    if cat "$1" constraints.txt | cmp -s - "$stamp"; then
        return
    fi
    echo "installing $1 (PyTorch is several GB: this takes a few minutes)"
    python -m pip install --disable-pip-version-check -c constraints.txt -r "$1"
    cat "$1" constraints.txt >"$stamp"
}
