# Sourced by the other scripts: goes to the repository's root, makes .venv where it is absent, and puts it first on PATH.
#   install FILE   installs a requirements file into .venv, unless that very file is installed already
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ ! -x .venv/bin/python ]; then
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "error: python3 must be 3.10 or newer" >&2; exit 2; }
    echo "making .venv"
    python3 -m venv .venv
fi
export PATH="$PWD/.venv/bin:$PATH"

install() {
    local stamp=".venv/installed-$(echo "$1" | tr / -)"
    cmp -s "$1" "$stamp" && return
    echo "installing $1 (PyTorch is several GB: this takes a few minutes)"
    python -m pip install --disable-pip-version-check -r "$1"
    cp "$1" "$stamp"
}
