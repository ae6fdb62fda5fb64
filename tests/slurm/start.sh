#!/bin/bash
# Start a throw-away Slurm on this machine, as root: start.sh RUN_DIR [controller]
# With "controller" only the controller is started, again, on the state that it saved.
# RUN_DIR must be short (sockets) and writable by nobody else. RUN_DIR/bin holds the commands that talk to this Slurm.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
run=${1:?run dir}
export SLURM_CONF=$run/slurm.conf
if [ "${2:-}" = controller ]; then
  exec slurmctld -f "$SLURM_CONF"
fi
host=$(hostname -s)
mkdir -p "$run"/{munge,state,spool-n1,spool-n2,bin}
chmod 755 "$run" "$run/munge"
for file in slurm gres; do sed "s#@RUN@#$run#g; s#@HOST@#$host#g" "$here/$file.conf.in" > "$run/$file.conf"; done
for gpu in 0 1; do [ -e "$run/gpu$gpu" ] || mknod "$run/gpu$gpu" c 1 3; done
# The executor plugin drops SLURM_CONF before its inner srun; these commands put it back.
for command in srun sbatch squeue scancel sinfo scontrol; do
  printf '#!/bin/sh\nSLURM_CONF=%s exec /usr/bin/%s "$@"\n' "$run/slurm.conf" $command > "$run/bin/$command"
  chmod +x "$run/bin/$command"
done
# There is no accounting database, so there is no sacct either.
printf '#!/bin/sh\necho "no accounting" >&2\nexit 1\n' > "$run/bin/sacct"
chmod +x "$run/bin/sacct"
[ -s "$run/munge.key" ] || (umask 077; head -c 128 /dev/urandom > "$run/munge.key")
munged --force --key-file="$run/munge.key" --socket="$run/munge/munge.socket" --pid-file="$run/munge/munged.pid" \
  --log-file="$run/munge/munged.log" --seed-file="$run/munge/munged.seed" --num-threads=2
slurmctld -f "$SLURM_CONF"
for node in n1 n2; do slurmd -f "$SLURM_CONF" -N $node; done
for _ in $(seq 200); do
  [ "$(timeout 2 sinfo -h -t idle -o %D 2>/dev/null | head -1)" = 2 ] && exit 0
  kill -0 "$(cat "$run/slurmctld.pid" 2>/dev/null)" 2>/dev/null || { sleep 2; kill -0 "$(cat "$run/slurmctld.pid")" 2>/dev/null || break; }
  sleep 0.1
done
echo "Slurm did not come up:" >&2
tail -n 20 "$run"/slurm*.log >&2
exit 1
