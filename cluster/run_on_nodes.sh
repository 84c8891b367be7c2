#!/bin/bash
# Runs a command on a Ray of its own over machines that are there already. slurm.sh and sky.yaml start it on each of them:
#
#   run_on_nodes.sh DIRECTORY HEAD_IP:PORT NODES RANK 'OPTIONS OF RAY START' COMMAND...
#
# The machine of rank 0 is the head. It waits until all machines have joined, runs the command, and exits with its code; the others
# exit when the head is gone. A Ray that does not start is a failure. Other Rays on the machine stay as they are, unlike with
# `ray symmetric-run`. DIRECTORY is a disk of the machine: Ray keeps its files there, and driver.pid has the command's process id.
set -euo pipefail

directory=$1 address=$2 nodes=$3 rank=$4
read -ra options <<< "$5"
shift 5

log=$directory/ray-$rank.log
export RAY_raylet_start_wait_time_s=120  # Ray's 30 s are too short for a cold file system.

fail() {
    echo "run_on_nodes.sh: rank $rank of $nodes on $(hostname): $1" >&2
    exit 1
}

ray_ended() {
    tail -n 20 "$log" >&2
    fail "Ray did not start, or has ended; its last lines are above"
}

head_answers() {  # `ray health-check` takes a minute to see that a head is gone.
    # shellcheck disable=SC2016  # the inner bash fills in its own words
    timeout 5 bash -c 'exec 3<> "/dev/tcp/$0/$1"' "${address%:*}" "${address##*:}" 2> /dev/null
}

wait_for_head() {
    for _ in {1..120}; do
        if head_answers; then return; fi
        kill -0 "$1" 2> /dev/null || ray_ended
        sleep 5
    done
    fail "the head at $address did not answer within 10 minutes"
}

wait_for_nodes() {
    python - "$address" "$nodes" << 'PYTHON'
import sys, time, ray
ray.init(sys.argv[1], log_to_driver=False, logging_level="ERROR")
deadline = time.monotonic() + 600
while (alive := sum(node["Alive"] for node in ray.nodes())) < int(sys.argv[2]):
    if time.monotonic() > deadline:
        sys.exit(f"{alive} of {sys.argv[2]} machines joined within 10 minutes: see the other machines' lines above")
    time.sleep(1)
PYTHON
}

mkdir -p "$directory/ray"
if [ "$rank" = 0 ]; then
    ray start --head --block --node-ip-address="${address%:*}" --port="${address##*:}" --dashboard-host=127.0.0.1 \
        --temp-dir="$directory/ray" "${options[@]}" > "$log" 2>&1 &
    node=$!
    trap 'kill "$node" 2> /dev/null || true; wait "$node" || true' EXIT
    wait_for_head "$node"
    wait_for_nodes || fail "the other machines did not join"
    RAY_ADDRESS=$address "$@" &
    echo $! > "$directory/driver.pid"
    code=0
    wait "$!" || code=$?
    exit "$code"
fi

wait_for_head $$
ray start --block --address="$address" "${options[@]}" > "$log" 2>&1 &
node=$!
trap 'kill "$node" 2> /dev/null || true; wait "$node" || true' EXIT
missed=0
while [ "$missed" -lt 3 ]; do
    sleep 10
    if head_answers; then
        missed=0
        kill -0 "$node" 2> /dev/null || ray_ended
    else
        missed=$((missed + 1))
    fi
done
