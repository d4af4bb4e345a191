#!/bin/sh
# One word on one job. PBS has to remember finished jobs (`qmgr -c "set server job_history_enable = true"`); while qstat
# does not answer, nothing is known to have ended.
case $(qstat -x -f "$1" 2> /dev/null) in
*"job_state = F"*"Exit_status = 0"*) echo success ;;
*"Exit_status = 0"*"job_state = F"*) echo success ;;
*"job_state = F"*) echo failed ;;
*) echo running ;;
esac
