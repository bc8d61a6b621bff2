#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The demo's main job, on real programs only. It knows nothing of Headwater.
#
#   orders.csv  -> sort | uniq | grep -> clean.csv       a shell pipeline
#   clean.csv   -> tar, gzip -> orders.tar.gz -> gzip, tar  an archive, made and unpacked
#   prices.csv  -> http.server -> urllib -> fetched.csv  a server and a client on loopback
#   all of them -> report.py and its children -> report.csv
#
# usage: job.sh DIRECTORY (holds orders.csv, regions.csv and shop/prices.csv)
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cd "$1"

# A shell pipeline.
sort orders.csv | uniq | grep -v '^#' > clean.csv

# An archive, made and unpacked.
tar -cf orders.tar clean.csv
gzip orders.tar
mkdir -p unpacked
gzip -dc orders.tar.gz > unpacked/orders.tar
tar -xf unpacked/orders.tar -C unpacked

# An HTTP server and a client on loopback; the server says which port it got.
python3 "$here/shop.py" shop port.txt &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
tries=0
while [ ! -s port.txt ]; do
	tries=$((tries + 1))
	[ "$tries" -le 600 ] || { echo "job: the HTTP server did not start" >&2; exit 1; }
	sleep 0.1
done
python3 - "http://127.0.0.1:$(cat port.txt)/prices.csv" <<'CLIENT'
import sys
import urllib.request

with urllib.request.urlopen(sys.argv[1], timeout=60) as answer, open("fetched.csv", "wb") as file:
    file.write(answer.read())
CLIENT
kill "$server"
wait "$server" 2> /dev/null || true
trap - EXIT

# An interpreter with child processes.
python3 "$here/report.py"
