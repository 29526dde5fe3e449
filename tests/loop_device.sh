#!/usr/bin/env bash
# The store on a block device of the kernel that compresses, emulated all the way:
#
#   csd:FILE  <- nbdkit -  NBD socket  <- nbdfuse -  a file  <- losetup -  /dev/loopN  <- cubby
#
# Needs root and the Debian packages nbdkit, nbdkit-plugin-dev (before CubbyDB is built), libnbd-bin
# and fuse3; says so and does nothing where one is missing. It ends with the machine as it was.
#
#   tests/loop_device.sh       the command cubby, and the tools, are found by PATH
set -eu

skip() {
    echo "skipped: $*"
    exit 0
}

[ "$(id -u)" = 0 ] || skip "loop devices need root"
for tool in cubby nbdkit nbdfuse fusermount3 losetup blkdiscard; do
    command -v "$tool" >/dev/null || skip "$tool is not installed"
done
[ -c /dev/fuse ] || skip "there is no /dev/fuse"
losetup --find >/dev/null 2>&1 || skip "there is no free loop device"

folder=$(mktemp -d)
loop=""
server=""
fuse=""

clean_up() {
    status=$?
    set +e
    [ -z "$loop" ] || losetup --detach "$loop"
    if [ -n "$fuse" ]; then
        fusermount3 -u "$folder/disk"
        wait "$fuse"
    fi
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null
        wait "$server"
    fi
    [ "$status" = 0 ] || cat "$folder"/*.log
    rm -rf "$folder"
    exit "$status"
}
trap clean_up EXIT

# wait_for WHAT COMMAND...: until a command succeeds.
wait_for() {
    what=$1
    shift
    for _ in $(seq 200); do
        if "$@" 2>/dev/null; then return; fi
        sleep 0.05
    done
    echo "no $what after 10 seconds" >&2
    exit 1
}

physical_bytes() {
    cubby device info "csd:$folder/drive.csd" --json | sed 's/.*"physical_bytes": \([0-9]*\).*/\1/'
}

start() {
    cubby device serve "csd:$folder/drive.csd" --socket "$folder/nbd.sock" \
        >"$folder/uri" 2>"$folder/server.log" &
    server=$!
    wait_for "server" test -s "$folder/uri"
    mkdir -p "$folder/disk"
    nbdfuse "$folder/disk" "$(cat "$folder/uri")" 2>"$folder/nbdfuse.log" &
    fuse=$!
    wait_for "file of nbdfuse" test -f "$folder/disk/nbd"
    loop=$(losetup --find --show --direct-io=on --sector-size 4096 "$folder/disk/nbd")
}

stop() {
    losetup --detach "$loop"
    loop=""
    wait_for "end of the loop device" fusermount3 -u "$folder/disk"
    wait "$fuse"
    fuse=""
    kill "$server"
    wait "$server"
    server=""
}

count=20000
seq "$count" | sed 's/.*/{"k": "key &", "v": "value & {\\"name\\": \\"somebody\\", \\"text\\": \\"of the usual kind\\"}"}/' \
    >"$folder/pairs.jsonl"

cubby device create "csd:$folder/drive.csd" --physical 128M --logical 512M
start
echo "== the store on $loop"
cubby create "$loop" --size 64M
cubby load "$loop" "$folder/pairs.jsonl" --verbose
cubby check "$loop"
cubby stat "$loop"
stop

echo "== again, by another loop device, and past it"
start
cubby dump "$loop" | sort >"$folder/dump.jsonl"
sort "$folder/pairs.jsonl" | cmp - "$folder/dump.jsonl"
stop
cubby check "csd:$folder/drive.csd"
[ "$(cubby scan "csd:$folder/drive.csd" --keys-only | wc -l)" = "$count" ]
full=$(physical_bytes)
cubby device info "csd:$folder/drive.csd"

echo "== discarded through the loop device"
start
blkdiscard --force "$loop"
stop
empty=$(physical_bytes)
echo "physical bytes: $full, then $empty"
[ "$full" -gt 100000 ] && [ "$empty" = 0 ]
echo "good"
