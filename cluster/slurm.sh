#!/bin/bash
# SLURM: one run inside one allocation. `ray symmetric-run` starts Ray on every node and the command on the first.
#
#   sbatch --nodes=4 cluster/slurm.sh conf/paper.yaml run_root=/shared/runs/paper
#
# Cost: all nodes for the whole time; nothing grows or shrinks. Run `make install DEVICE=gpu` first. Submit from the root of the
# repository, on a disk that all nodes share. After a time limit or a preemption the same line resumes the run.
#SBATCH --job-name=stj
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=96
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --requeue

set -euo pipefail

if [ $# -eq 0 ]; then
    echo "usage: sbatch cluster/slurm.sh CONF.yaml run_root=/shared/path [key=value ...]" >&2
    exit 2
fi

export PATH="$PWD/.venv/bin:$PATH"
export RAY_AUTH_MODE=token
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=600  # Seconds; Ray's default of 30 is too short for a cold file system.

(umask 077 && ray get-auth-token --generate > /dev/null)  # ~/.ray/auth_token, on the home directory that all nodes share.
chmod 600 "$HOME/.ray/auth_token"

nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head_node=${nodes%%$'\n'*}
addresses=$(srun --nodes=1 --ntasks=1 --nodelist="$head_node" hostname --all-ip-addresses)
head_ip=${addresses%% *}
port=$((20000 + SLURM_JOB_ID % 10000))  # Two jobs may share a head node if --exclusive is overruled.

srun --nodes="$SLURM_NNODES" --ntasks="$SLURM_NNODES" \
    ray symmetric-run --address "$head_ip:$port" --min-nodes "$SLURM_NNODES" \
    --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="$SLURM_GPUS_ON_NODE" \
    -- stj run "$@"
