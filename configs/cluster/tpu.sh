#!/bin/bash
# Trains a published configuration on a Cloud TPU slice: creates it, installs this package on its first host,
# trains, deletes it. From a checkout, with `gcloud` set up and the data in a bucket of the slice's region:
#
#   BUCKET=gs://yours bash configs/cluster/tpu.sh                                    512x512, on a v3-32
#   BUCKET=gs://yours TPU_TYPE=v3-128 \
#     CONFIG=configs/center_net_deepmac_1024x1024_voc_only.yaml bash configs/cluster/tpu.sh
#   BUCKET=gs://yours TPU_TYPE=v4-32 ZONE=us-central2-b bash configs/cluster/tpu.sh
#
# BUCKET holds tfrecords/ (of `deepmac tfrecord`) and start/ (of `deepmac import-checkpoint`), and gets runs/.
# Hardware: as published, a v3-32 for 512x512 and a v3-128 for 1024x1024; a v4-32 and a v4-128 have as many
# chips with as much memory. Time: 13 hours on the v3-32, 11 on the v3-128, half of it on v4s; price: see
# configs/cluster/README.md. All estimates.
# Interrupted, run it again: it goes on from the last checkpoint. If it fails, the slice is not deleted.
#
# Not run by us on a TPU. RUNTIME must hold the TensorFlow that is installed here, and be one of those that
# cloud.google.com/tpu/docs/runtimes names.
set -euo pipefail

: "${BUCKET:?set BUCKET to gs://...}"
NAME=${NAME-deepmac}
ZONE=${ZONE-europe-west4-a}
TPU_TYPE=${TPU_TYPE-v3-32}
RUNTIME=${RUNTIME-tpu-vm-tf-2.20.0-pod-pjrt}
EXPERIMENT=${EXPERIMENT-deepmac_hourglass_coco} # Deep-MARC: see the head of configs/mask_rcnn/*.yaml
CONFIG=${CONFIG-configs/center_net_deepmac_512x512_voc_only.yaml}
INIT=${INIT-$BUCKET/start} # may be empty

# TensorFlow has a device for each core of a v3, and for each chip, which is two cores, of a v4.
replicas=${TPU_TYPE#v*-}
case $TPU_TYPE in v4-*) replicas=$((replicas / 2)) ;; esac

on_first_host() { gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=0 --command="$1"; }

gcloud compute tpus tpu-vm describe "$NAME" --zone="$ZONE" > /dev/null 2>&1 ||
  gcloud compute tpus tpu-vm create "$NAME" --zone="$ZONE" --accelerator-type="$TPU_TYPE" --version="$RUNTIME"

code=$(mktemp --suffix=.tar.gz)
trap 'rm "$code"' EXIT
git archive --format=tar.gz --output="$code" HEAD
gcloud compute tpus tpu-vm scp "$code" "$NAME:deepmac.tar.gz" --zone="$ZONE" --worker=0
on_first_host "mkdir -p deepmac && tar -xzf deepmac.tar.gz -C deepmac && cd deepmac &&
  sudo apt-get install -y python3.11-venv && python3.11 -m venv .venv &&
  .venv/bin/pip install -c constraints.txt ."

# TPU_LOAD_LIBRARY=0: the slice's chips are reached through the servers on its hosts, not as this host's own.
on_first_host "cd deepmac && TPU_LOAD_LIBRARY=0 .venv/bin/python -m deepmac.train --mode=train_and_eval \
  --tpu=$NAME --experiment=$EXPERIMENT --model_dir=$BUCKET/runs/$(basename "$CONFIG" .yaml) \
  --config_file=$CONFIG --params_override='
    runtime: {distribution_strategy: tpu}
    task:
      init_checkpoint: $INIT
      annotation_file: $BUCKET/tfrecords/instances_val2017.json
      train_data: {input_path: $BUCKET/tfrecords/train2017-*}
      validation_data: {input_path: $BUCKET/tfrecords/val2017-*, global_batch_size: $replicas}'"

gcloud compute tpus tpu-vm delete "$NAME" --zone="$ZONE" --quiet
