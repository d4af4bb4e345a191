#!/bin/bash
# A Slurm of one node on loopback, for tests: munged, slurmctld and slurmd, without systemd, cgroups or accounting.
# Needs root and Debian's slurmctld, slurmd, slurm-client and munge. CPUs, memory and GPUs are what Slurm is told: GPUs are
# character devices that do nothing, but Slurm schedules them and sets CUDA_VISIBLE_DEVICES. Stop it with down.sh.
set -euo pipefail
STATE=$1
CPUS=8 MEMORY=64000 GPUS=2
HOST=$(hostname -s)
ELSEWHERE=75 # the exit status of what is not these tests' fault
CONFIGURATION=/etc/slurm/slurm.conf # no other path: the plugin of job steps drops SLURM_CONF

if [ -e $CONFIGURATION ]; then
  owner=$(sed -n '1s/^# refusal-cliff test cluster of process //p' $CONFIGURATION)
  [ -n "$owner" ] || { echo "$CONFIGURATION is of another Slurm, which is left alone"; exit $ELSEWHERE; }
  ! kill -0 "$owner" 2> /dev/null || { echo "process $owner runs these tests already"; exit $ELSEWHERE; }
  # Left by a run that was killed.
  "$(dirname "$0")/down.sh" "$(sed -n 's/^SlurmdSpoolDir=\(.*\)\/node$/\1/p' $CONFIGURATION)"
fi

mkdir -p "$STATE"/{controller,node,devices} /etc/slurm /run/munge /var/log/munge /var/lib/munge
chown munge:munge /run/munge /var/log/munge /var/lib/munge
if [ ! -s /etc/munge/munge.key ]; then
  dd if=/dev/urandom of=/etc/munge/munge.key bs=1024 count=1 status=none
  chown munge:munge /etc/munge/munge.key
  chmod 400 /etc/munge/munge.key
fi
for ((i = 0; i < GPUS; i++)); do
  [ -c "$STATE/devices/nvidia$i" ] || mknod -m 666 "$STATE/devices/nvidia$i" c 1 3 || { echo "no device nodes can be made here"; exit $ELSEWHERE; }
done

cat > $CONFIGURATION <<EOC
# refusal-cliff test cluster of process $PPID
ClusterName=test
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
MinJobAge=3600
ReturnToService=2
MailProg=/bin/true
SchedulerParameters=sched_interval=2,bf_interval=2,sched_min_interval=0
KillWait=3
SlurmctldPort=6817
SlurmdPort=6818
SrunPortRange=60001-60100
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPidFile=$STATE/slurmctld.pid
SlurmdPidFile=$STATE/slurmd.pid
SlurmctldLogFile=$STATE/slurmctld.log
SlurmdLogFile=$STATE/slurmd.log
StateSaveLocation=$STATE/controller
SlurmdSpoolDir=$STATE/node
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=$CPUS Boards=1 SocketsPerBoard=1 CoresPerSocket=$CPUS ThreadsPerCore=1 RealMemory=$MEMORY Gres=gpu:$GPUS State=UNKNOWN
PartitionName=cpu Nodes=$HOST Default=YES MaxTime=4-0 State=UP
PartitionName=gpu Nodes=$HOST MaxTime=4-0 State=UP
EOC
cat > /etc/slurm/gres.conf <<EOC
AutoDetect=off
NodeName=$HOST Name=gpu File=$STATE/devices/nvidia[0-$((GPUS - 1))]
EOC

wait_for() {
  for _ in $(seq 50); do
    "$@" > "$STATE/waiting" 2>&1 && return
    sleep 0.2
  done
  echo "gave up waiting for: $*" >&2
  cat "$STATE/waiting" "$STATE"/*.log >&2
  exit 1
}
munge -n > /dev/null 2>&1 || { runuser -u munge -- /usr/sbin/munged --force; cp /run/munge/munged.pid "$STATE"; }
wait_for munge -n
slurmctld
wait_for bash -c 'scontrol ping | grep UP'
slurmd -N "$HOST"
wait_for bash -c 'sinfo --noheader --format %T | grep -x idle'
