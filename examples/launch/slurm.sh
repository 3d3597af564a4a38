#!/usr/bin/env bash
# Four machines with 8 GPUs each under Slurm:
#     sbatch examples/launch/slurm.sh examples/pretrain_imagenet.py --train_dir imagenet --config_name crossvit_15_dagger_240
# Two minutes before the time limit Slurm sends SIGTERM, and the scripts save a checkpoint. Submit the job again to continue from it. After
# the failure of a machine, Slurm submits the job again itself.
#SBATCH --job-name=crossvit
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=96
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

host=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# Each task finds its own rank: SLURM_NODEID is set by srun.
export HOST="$host"
exec srun --kill-on-bad-exit=1 bash -c '
    exec accelerate launch --config_file examples/launch/four_nodes.yaml \
        --machine_rank "$SLURM_NODEID" --main_process_ip "$HOST" "$@"' accelerate "$@"
