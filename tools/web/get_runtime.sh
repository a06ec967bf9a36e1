#!/usr/bin/env bash
# Puts the three files of onnxruntime-web that the page needs with --in_browser into
# tools/web/vendor/: bash tools/web/get_runtime.sh
# Needs npm, which also compares the package with its published checksum. Nothing is installed.
set -euo pipefail
cd "$(dirname "$0")"
package=onnxruntime-web@1.30.0
files=(ort.wasm.min.mjs ort-wasm-simd-threaded.mjs ort-wasm-simd-threaded.wasm)

if [ -f vendor/version ] && [ "$(cat vendor/version)" = "$package" ]; then
    echo "already there: $package, in tools/web/vendor"
    exit
fi
if ! command -v npm >/dev/null; then
    echo "error: npm is missing; install Node.js, or run the page without --in_browser" >&2
    exit 2
fi
new=$(mktemp -d "$PWD/vendor.XXXXXX")
trap 'rm -rf "$new"' EXIT
echo "downloading $package (33 MB)"
npm pack --loglevel error --pack-destination "$new" "$package" >/dev/null
tar -xzf "$new"/*.tgz -C "$new" --strip-components=2 "${files[@]/#/package/dist/}"
rm "$new"/*.tgz
echo "$package" >"$new/version"
chmod 755 "$new"
rm -rf vendor
mv "$new" vendor
echo "got $package, in tools/web/vendor"
