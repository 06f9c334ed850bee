#!/bin/bash
# Node pools of a GKE cluster for cells: GKE_CLUSTER=... GKE_LOCATION=... [GKE_MOST=100] gke-nodes.sh
# Heads go to "heads"; workers to "spot", and to "fallback" where spot is out; those without GPUs (--cpu-workers) to "cpu",
# and where spot is out to "heads" or "cpu-fallback", which are the same machines.
# All grow from nothing, and shrink to it.
set -euo pipefail

: "${GKE_CLUSTER:?name of the cluster}" "${GKE_LOCATION:?its region or zone}"
gpu=(--machine-type g2-standard-8 --accelerator type=nvidia-l4,count=1,gpu-driver-version=default)
pool() {
    gcloud container node-pools create "$1" --cluster "$GKE_CLUSTER" --location "$GKE_LOCATION" \
        --enable-autoscaling --num-nodes 0 --total-min-nodes 0 --total-max-nodes "$2" "${@:3}"
}

pool heads 10 --machine-type e2-standard-4
pool spot "${GKE_MOST:-100}" "${gpu[@]}" --spot --location-policy ANY
pool fallback 20 "${gpu[@]}"
pool cpu "${GKE_MOST:-100}" --machine-type e2-standard-4 --spot --location-policy ANY
pool cpu-fallback 20 --machine-type e2-standard-4
