# The demonstration that `make demo` runs: each command is printed, then run.
#
#   sh cli/demo.sh PATH     PATH is a new store; a file from an earlier run is replaced
#
# The data are the machine's own Debian package index, one control stanza per package under the
# package's name. Where there is no such index the script makes up a corpus of the same shape.
set -eu
store=$1
export PYTHONUNBUFFERED=1
started=$(date +%s)

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

# 50,000 stanzas, the same in every run.
made_up_stanzas() {
    awk 'BEGIN {
        split("archive block cache daemon editor filter graph hash index journal", word, " ")
        for (i = 0; i < 50000; i++) {
            printf "Package: sample-%05d\nVersion: %d.%d-%d\nSection: %s\n", i, i % 9, i % 31, i % 4,
                word[i % 10 + 1]
            printf "Description: %s of %ss\n", word[i * 7 % 10 + 1], word[i * 3 % 10 + 1]
            for (line = 0; line < 4 + i % 12; line++)
                printf " This %s keeps the %s of a %s in a %s, number %d.\n", word[line % 10 + 1],
                    word[(i + line) % 10 + 1], word[i % 10 + 1], word[(i + 3) % 10 + 1], i * 31 + line
            printf "\n"
        }
    }'
}

packages_in_index() {
    if command -v apt-cache >/dev/null; then
        apt-cache dumpavail 2>/dev/null | grep -c '^Package: ' || true
    else
        echo 0
    fi
}

count=$(packages_in_index)
if [ "$count" -lt 1000 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "This machine has no Debian package index yet; fetching it with apt-get update."
    apt-get update -q >/dev/null 2>&1 || echo "apt-get update failed."
    count=$(packages_in_index)
fi
if [ "$count" -ge 1000 ]; then
    source="apt-cache dumpavail"
    echo "The data: this machine's Debian package index, $count records."
    key_1=bash key_2=liburing-dev prefix=python3-
else
    source="made_up_stanzas"
    echo "There is no Debian package index on this machine (apt-cache dumpavail gives $count records;"
    echo "apt-get update, as root, would fetch it). The data are made up instead: 50,000 stanzas."
    key_1=sample-00007 key_2=sample-31415 prefix=sample-0314
fi

rm -f "$store"
run cubby create "$store" --size 256M
printf '\n$ %s | cubby load %s - --format deb822\n' "$source" "$store"
$source | cubby load "$store" - --format deb822
run cubby get "$store" "$key_1"
run cubby get "$store" "$key_2"
run cubby scan "$store" --prefix "$prefix" --limit 5
run cubby stat "$store"
run cubby check "$store"

printf '\nThe demonstration took %d seconds; the store stays in %s.\n' \
    "$(($(date +%s) - started))" "$store"
