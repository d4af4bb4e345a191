#!/bin/bash
# Stops what up.sh started, by its process ids, and takes its configuration away.
STATE=$1
for daemon in slurmd slurmctld munged; do
  [ -s "$STATE/$daemon.pid" ] || continue
  id=$(cat "$STATE/$daemon.pid")
  kill "$id"
  for _ in $(seq 50); do
    kill -0 "$id" 2> /dev/null || break
    sleep 0.1
  done
done
if grep -qs "=$STATE/" /etc/slurm/slurm.conf; then rm -f /etc/slurm/slurm.conf /etc/slurm/gres.conf; fi
