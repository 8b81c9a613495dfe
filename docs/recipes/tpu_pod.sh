#!/bin/bash
# A NoiseZoo on a Cloud TPU pod slice: one process a host, which JAX joins by itself.
#
#   TPU=my-v5e-32 ZONE=us-central1-a ./tpu_pod.sh
#
# /mnt/zoo is a Filestore (NFS) share mounted on every host: the zoo needs renames that
# are atomic, which a bucket behind a FUSE mount does not have. Images may come from a
# mounted bucket. If the slice is preempted, run this again; any slice size will do.
set -euo pipefail

on_every_host() {
    gcloud compute tpus tpu-vm ssh "$TPU" --zone "$ZONE" --worker=all --command "$1"
}

on_every_host "python3 -m venv ~/une && ~/une/bin/pip install -q 'une-jax[tpu]'"
on_every_host "HF_HOME=/mnt/zoo/hub ~/une/bin/une-jax build --engine distributed \
    --images /mnt/images/celeba --partition validation \
    --generator sd15 --encoder clip-l14 --encoder dinov3-l16 \
    --steps 50 --dtype bfloat16 --out /mnt/zoo/noisezoo"
gcloud compute tpus tpu-vm ssh "$TPU" --zone "$ZONE" --worker=0 \
    --command "~/une/bin/une-jax verify /mnt/zoo/noisezoo"
