#!/bin/bash
# Stop what start.sh started, by pid file: stop.sh RUN_DIR [controller]
run=${1:?run dir}
export SLURM_CONF=$run/slurm.conf
daemons="slurmctld.pid"
if [ "${2:-}" != controller ]; then
  scancel --user="$(id -un)" 2>/dev/null
  for _ in $(seq 50); do [ -z "$(squeue -h -t pending,running,completing 2>/dev/null)" ] && break; sleep 0.1; done
  daemons="slurmctld.pid slurmd-n1.pid slurmd-n2.pid munge/munged.pid"
fi
for file in $daemons; do
  pid=$(cat "$run/$file" 2>/dev/null) || continue
  kill "$pid" 2>/dev/null
  for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
done
