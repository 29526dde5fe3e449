#!/usr/bin/env bash
# Count the instructions that a get and a put take in user space, by callgrind, on a store in memory: a
# count does not depend on what else the machine does. The put is a lasting one: the buffer is small, so
# that each put pays for writing back another one.
#
#   bench/instructions.sh [CHECKOUT]    of another checkout, to compare with; this one's, if none is named
set -eu
cd "$(dirname "$0")/.."
source=${1:-.}
build=$source/build/instructions
command -v valgrind >/dev/null || { echo "instructions: valgrind is missing (Debian package: valgrind)" >&2; exit 1; }
cmake=$(command -v .venv/bin/cmake || command -v cmake)

mkdir -p "$build"
"$cmake" -S "$source/engine" -B "$build" -DCUBBY_BENCH=ON -DCMAKE_C_FLAGS=-g >"$build/log" 2>&1 &&
    "$cmake" --build "$build" -j"$(nproc)" --target cubby-gets cubby-durability >"$build/log" 2>&1 ||
    { tail -20 "$build/log" >&2; exit 1; }

pairs=50000 warm=20000 operations=100000

# count FUNCTION CALLS COMMAND...: instructions of a call of it, with all that it calls
count() {
    local function=$1 calls=$2
    shift 2
    valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect="$function" "$@" 2>&1 >/dev/null |
        awk -v calls="$calls" '/I +refs:/ { gsub(",", "", $NF); printf "%d\n", $NF / calls }'
}

echo "get: $(count cubby_get $operations "$build/cubby-gets" --path mem:256M --pairs $pairs \
    --workloads load,get --seconds 1000 --operations $operations) instructions"
echo "put: $(count cubby_put $((pairs + warm + operations)) "$build/cubby-durability" puts --new --path mem:1G \
    --pairs $pairs --buffer-bytes 4194304 --threads 1 --warm-operations $warm --operations $operations \
    --value-bytes 384) instructions"
