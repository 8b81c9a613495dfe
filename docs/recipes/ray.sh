#!/bin/bash
# A NoiseZoo on a Ray cluster: workers may join, leave and die while it grows.
#
# On the head node, then on each other node (the same environment everywhere):
#   pip install 'une-jax[cuda,cluster]'
#   ray start --head --node-ip-address="$HEAD" --port=6379
#   ray start --address="$HEAD:6379"
# Then here, on the head node:
#   HEAD=10.0.0.2 ./ray.sh
#
# Each worker takes one GPU, loads the models once and commits its own shards; a shard
# whose worker died goes to another. Nodes that join later are used as they come. The
# folder must be on a file system that all nodes see, with atomic renames. On TPU hosts
# ask for chips instead: --ray-tpus 4 with --ray-gpus 0.
set -euo pipefail

une-jax build --engine ray --ray-address "$HEAD:6379" --ray-gpus 1 --ray-cpus 8 \
    --images /data/celeba --partition validation \
    --generator sd15 --encoder clip-l14 --encoder dinov3-l16 \
    --steps 50 --dtype bfloat16 --out /data/noisezoo
une-jax verify /data/noisezoo
