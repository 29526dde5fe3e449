#!/usr/bin/env bash
# Bring the store's peers to where the benchmarks look for them: RocksDB and LMDB from Debian's packages,
# and WiredTiger, which Debian has not in a version of these years, built from PyPI's source package into
# build/peers/wiredtiger. Called by `make peers`; what is there already is left alone.
set -eu
cd "$(dirname "$0")/.."

packages=()
for header in rocksdb/c.h:librocksdb-dev lmdb.h:liblmdb-dev; do
    echo "#include <${header%%:*}>" | "${CC:-cc}" -E - >/dev/null 2>&1 || packages+=("${header##*:}")
done
if [ "${#packages[@]}" -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "peers: installing ${packages[*]}"
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}" >/dev/null
    else
        echo "peers: not root, so please install: apt-get install ${packages[*]}"
    fi
fi

target=build/peers/wiredtiger
if [ ! -f "$target/lib/libwiredtiger.a" ]; then
    echo "peers: building WiredTiger, which takes a minute or two"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    .venv/bin/pip download --quiet --disable-pip-version-check --no-deps --no-binary wiredtiger -d "$work" wiredtiger
    tar -xzf "$work"/wiredtiger-*.tar.gz -C "$work"
    cmake=$(command -v .venv/bin/cmake || command -v cmake)
    "$cmake" -S "$work"/wiredtiger-*/ -B "$work/build" -DCMAKE_BUILD_TYPE=Release -DENABLE_PYTHON=0 \
        -DHAVE_UNITTEST=0 -DENABLE_CPPSUITE=0 -DENABLE_STRICT=0 -DENABLE_STATIC=1 -DENABLE_SHARED=0 \
        -DWITH_PIC=1 >"$work/log" 2>&1 &&
        "$cmake" --build "$work/build" --target wiredtiger_static -j"$(nproc)" >"$work/log" 2>&1 ||
        { tail -20 "$work/log"; echo "peers: WiredTiger could not be built; the benchmarks do without"; exit 1; }
    rm -rf "$target.new"
    mkdir -p "$target.new/lib" "$target.new/include"
    cp "$work/build/libwiredtiger.a" "$target.new/lib/"
    cp "$work/build/include/wiredtiger.h" "$target.new/include/"
    rm -rf "$target"
    mv "$target.new" "$target"
fi
