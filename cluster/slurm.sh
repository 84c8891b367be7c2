#!/bin/bash
# SLURM: one run inside one allocation.
#
#   sbatch --nodes=4 cluster/slurm.sh conf/paper.yaml run_root=/shared/runs/paper
#   CONTAINER=pyxis IMAGE=YOUR-IMAGE sbatch --nodes=4 cluster/slurm.sh conf/paper.yaml run_root=/shared/runs/paper
#   CONTAINER=apptainer IMAGE=/shared/stj.sif sbatch ...
#
# Cost: all nodes for the whole time; nothing grows or shrinks. Submit from the root of the repository, on a disk that all nodes
# share. The image is cluster/Dockerfile's; without CONTAINER, run `make install DEVICE=gpu` first. The nodes need NVIDIA driver
# 580.65.06 or newer. After a time limit or a preemption the same line resumes the run.
# SCRATCH names a disk of each node for models and temporary files (default: SLURM_TMPDIR, else /tmp). If NCCL takes a wrong network,
# set NCCL_SOCKET_IFNAME; `stj doctor` and the run's start show whether the machines reach each other.
#SBATCH --job-name=stj
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=96
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@430

set -euo pipefail

if [ $# -eq 0 ]; then
    echo "usage: sbatch cluster/slurm.sh CONF.yaml run_root=/shared/path [key=value ...]" >&2
    exit 2
fi

container=${CONTAINER:-none}
if [ "$container" != none ] && [ -z "${IMAGE:-}" ]; then
    echo "IMAGE is not set: name the image of cluster/Dockerfile (pyxis: registry#name:tag or a .sqsh file; apptainer: a .sif file)" >&2
    exit 2
fi

scratch=${SCRATCH:-${SLURM_TMPDIR:-/tmp}}/stj-$USER
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/.ray/auth_token  # On the home directory that all nodes share.
export RAY_JOB_STOP_WAIT_TIME_S=400  # SLURM's notice above is 430 s.
hf_token=${HF_TOKEN_PATH:-${HF_HOME:-$HOME/.cache/huggingface}/token}  # For gated models.
mounts=("$PWD:$PWD" "$scratch:/scratch" "$HOME/.ray:$HOME/.ray")
if [ -f "$hf_token" ]; then mounts+=("$hf_token:/home/ray/.cache/huggingface/token"); fi
if [ -n "${MOUNTS:-}" ]; then mounts+=("$MOUNTS"); fi  # For run_root and data: MOUNTS=/shared:/shared
joined=$(IFS=,; echo "${mounts[*]}")

case $container in
    none)
        export PATH="$PWD/.venv/bin:$PATH"
        export HF_TOKEN_PATH=$hf_token
        export HF_HOME=$scratch/hf STJ_CACHE=$scratch/stj TMPDIR=$scratch/tmp XDG_CACHE_HOME=$scratch/cache
        export TRITON_CACHE_DIR=$scratch/cache/triton FLASHINFER_WORKSPACE_BASE=$scratch/cache  # Else on the shared home directory.
        directory=$scratch
        inside=()
        in_container=()
        ;;
    pyxis)
        directory=/scratch
        inside=(--container-image="$IMAGE" --container-mounts="$joined" --no-container-mount-home --container-workdir="$PWD")
        in_container=()
        ;;
    apptainer)
        directory=/scratch
        inside=()
        in_container=(apptainer exec --nv --no-home --pwd "$PWD" --bind "$joined" "$IMAGE")
        ;;
    *)
        echo "CONTAINER=$container: name pyxis or apptainer, or leave it out" >&2
        exit 2
        ;;
esac

if [ "$container" != none ]; then  # Apptainer lets this shell's variables win over the image's.
    unset HF_HOME HF_TOKEN_PATH STJ_CACHE TMPDIR XDG_CACHE_HOME TRITON_CACHE_DIR FLASHINFER_WORKSPACE_BASE CUDA_HOME LC_ALL
    unset PYTHONHOME PYTHONPATH  # Python programs of this machine; the image has its own.
fi

if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then  # The cluster's key.
    (umask 077 && mkdir -p "$HOME/.ray" && head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' > "$RAY_AUTH_TOKEN_PATH")
fi
chmod 600 "$RAY_AUTH_TOKEN_PATH"

nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head_node=${nodes%%$'\n'*}
last_node=${nodes##*$'\n'}
# As another node sees it: on the head itself the name may be a loopback address, and its first address a network of containers.
addresses=$(srun --nodes=1 --ntasks=1 --nodelist="$last_node" getent ahostsv4 "$head_node")
head_ip=${addresses%% *}
if [ -z "$head_ip" ]; then
    echo "$last_node does not know the address of $head_node" >&2
    exit 1
fi
port=$((20000 + SLURM_JOB_ID % 10000))  # Two jobs may share a head node if --exclusive is overruled.
srun --nodes="$SLURM_NNODES" --ntasks="$SLURM_NNODES" \
    mkdir -p -m 700 "$scratch" "$scratch/cache" "$scratch/hf" "$scratch/ray" "$scratch/stj" "$scratch/tmp"

# The step runs in the background, so that this shell hears SLURM's notice and hands it to `stj` alone, not to Ray.
# `srun` does not take --cpus-per-task from sbatch (since SLURM 22.05): without it, all of a node's processes share one CPU.
# shellcheck disable=SC2016  # each node fills in its own rank
srun --nodes="$SLURM_NNODES" --ntasks="$SLURM_NNODES" --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 "${inside[@]}" "${in_container[@]}" \
    bash -c 'exec cluster/run_on_nodes.sh "$1" "$2" "$3" "$SLURM_PROCID" "${@:4}"' run \
    "$directory" "$head_ip:$port" "$SLURM_NNODES" "--num-cpus=$SLURM_CPUS_PER_TASK --num-gpus=$SLURM_GPUS_ON_NODE" \
    stj run "$@" &
step=$!
trap 'kill -TERM "$(cat "$scratch/driver.pid")" || true' TERM
code=0
wait "$step" || code=$?
while kill -0 "$step" 2> /dev/null; do  # `wait` also returns at a notice
    code=0
    wait "$step" || code=$?
done
exit "$code"
