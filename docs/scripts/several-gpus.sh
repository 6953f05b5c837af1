#!/usr/bin/env bash
# One machine with several GPUs: a worker for each, no further library needed.
#
#   docs/scripts/several-gpus.sh --task demo --labeler calibf1 --steerer sae-clamp
#   WORKERS=cuda:1,cuda:2,cuda:3 docs/scripts/several-gpus.sh …      leaves the first GPU to the driver alone
#
# Killed or interrupted, it goes on with the same command. Everything after the script's name goes to `harness eval`.
set -euo pipefail

workers=()
if [[ -n "${WORKERS:-}" ]]; then
    workers=(--workers "$WORKERS")
fi

# exec: a signal to this script is one to harness, which keeps what it has and ends its workers.
exec harness eval --executor processes ${workers[@]+"${workers[@]}"} "$@"
