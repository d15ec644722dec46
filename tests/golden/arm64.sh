#!/usr/bin/env bash
# The golden runs on an emulated arm64, beside digests.txt: tests/golden/arm64.sh [FOLDER]
#
# Takes Debian or Ubuntu on x86-64 with qemu-user, gcc-aarch64-linux-gnu and libc6-dev-arm64-cross, and some minutes.
# Debian's arm64 Python and the packages' wheels for it are put into FOLDER (by default a new one under TMPDIR) and
# started by qemu; nothing is installed, and this clone's compiled core stays as it is.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
folder=${1:-$(mktemp -d)}
libraries="libc6 libgcc-s1 libstdc++6 libgomp1 zlib1g libexpat1 libssl3 libffi8 libbz2-1.0 liblzma5 libsqlite3-0 libuuid1 \
libcrypt1"
mkdir -p "$folder"/{lists/partial,cache/archives/partial,debs,root,clone}
apt_of_arm64() {
    apt-get -o Dir::State::lists="$folder/lists" -o Dir::Cache="$folder/cache" -o Debug::NoLocking=1 \
        -o APT::Architecture=arm64 -o APT::Architectures=arm64 "$@"
}
apt_of_arm64 -qq update
# shellcheck disable=SC2086
(cd "$folder/debs" && apt_of_arm64 -qq download python3.11-minimal libpython3.11-minimal libpython3.11-stdlib $libraries)
for package in "$folder"/debs/*.deb; do dpkg -x "$package" "$folder/root"; done
python3 -m pip install --quiet --target "$folder/site" --only-binary=:all: --python-version 3.11 \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 \
    --platform manylinux2014_aarch64 numpy scipy psutil pyarrow rich tomli-w tyro
git -C "$root" archive HEAD | tar x -C "$folder/clone" # a folder of its own: the compiled cores are named alike
cd "$folder/clone"
# what an emulated process starts runs as it is: the compiler is this machine's, for the other one
env PYTHONHOME="$folder/root/usr" PYTHONPATH="$folder/clone:$folder/site" CC=aarch64-linux-gnu-gcc \
    qemu-aarch64 -L "$folder/root" "$folder/root/usr/bin/python3.11" tests/golden/runs.py >"$folder/digests.txt"
diff "$folder/digests.txt" tests/golden/digests.txt
echo "$(wc -l <"$folder/digests.txt") models have the digests of digests.txt"
