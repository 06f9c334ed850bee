#!/bin/bash
# Workers of one run as a Slurm array: sbatch --export=ALL,VOXFLEET_RUN=...,VOXFLEET_LEDGER=...,VOXFLEET_IMAGE=... slurm.sh
#SBATCH --job-name=voxfleet
#SBATCH --array=0-99
#SBATCH --ntasks=1
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=48G
#SBATCH --time=12:00:00
# SIGTERM goes to this shell, which hands it on, a minute before the time is up.
#SBATCH --signal=B:TERM@60
#SBATCH --requeue
set -euo pipefail

: "${VOXFLEET_RUN:?name of the run}" "${VOXFLEET_LEDGER:?postgresql://USER@HOST/DATABASE}"
task="${SLURM_ARRAY_JOB_ID:-0}-${SLURM_ARRAY_TASK_ID:-0}"
launch=(${VOXFLEET_LAUNCH:-apptainer exec --nv --bind ${TMPDIR:-/tmp} "${VOXFLEET_IMAGE:?path of the image}"})

told='' worker=''
trap 'told=1; [ -z "$worker" ] || kill -TERM "$worker" || true' TERM

# The node's name stands in results' provenance: not the host's, which may be a hospital's.
"${launch[@]}" voxfleet worker "$VOXFLEET_RUN" \
    --device "${VOXFLEET_DEVICE:-cuda:0}" \
    --node "slurm-$task" \
    --folder "${TMPDIR:-/tmp}/voxfleet" \
    --drain 40 &
worker=$!
[ -z "$told" ] || kill -TERM "$worker"
while :; do
    told='' code=0
    wait "$worker" || code=$?
    # A signal breaks a wait off.
    [ -n "$told" ] || break
done

# 143: told to leave, by the time limit or for a job of higher priority, and more is left. Slurm begins a job again by
# itself only where the node failed, or where it had to kill it; one that was cancelled stays so.
if [ "$code" -eq 143 ] && [ "$(squeue --noheader --job "$SLURM_JOB_ID" --format %T)" = RUNNING ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
