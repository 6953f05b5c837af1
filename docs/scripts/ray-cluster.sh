#!/usr/bin/env bash
# Several machines with Ray (`pip install 'sae-harness[ray]'` on each of them, and the same versions of everything).
#
#   on the first machine     docs/scripts/ray-cluster.sh head
#   on each of the others    docs/scripts/ray-cluster.sh join FIRST-MACHINE
#   on the first machine     docs/scripts/ray-cluster.sh eval --task demo --labeler calibf1 --steerer sae-clamp
#   at the end, everywhere   docs/scripts/ray-cluster.sh stop
#
# HARNESS_CACHE and HF_HOME must be folders that all machines see under one path: workers read the model and trained adapters there.
set -euo pipefail

port="${RAY_PORT:-6379}" # not one of 10002 to 19999, which Ray gives its workers
export RAY_USAGE_STATS_ENABLED=0

# From Ray 2.60 on, a head asks for a token where its user has one (a session of one machine leaves one in the home folder). So do the others then.
if [[ -z "${RAY_AUTH_MODE:-}" && -s "${RAY_AUTH_TOKEN_PATH:-${HOME:-}/.ray/auth_token}" ]]; then
    export RAY_AUTH_MODE=token
fi

case "${1:-}" in
head)
    ray start --head --port="$port"
    ;;
join)
    ray start --address="${2:?the address of the first machine}:$port"
    ;;
eval)
    shift
    exec harness eval --executor ray --ray-address "${RAY_ADDRESS:-auto}" "$@"
    ;;
stop)
    ray stop
    ;;
*)
    echo "usage: $0 head | join ADDRESS | eval OPTIONS… | stop" >&2
    exit 2
    ;;
esac
