#!/bin/bash
# Restarts a systemd unit that the site allows, and succeeds only when it is active afterwards and stays so.
# Parameters come from the environment; the action's file limits what each may be. No value reaches a shell as code.
set -u
LC_ALL=C
shopt -u nocasematch extglob

unit="${BOLT_PARAM_SERVICE:?}"
start_wait="${BOLT_PARAM_START_WAIT:-60}"
settle="${BOLT_PARAM_SETTLE:-5}"
start_inactive="${BOLT_PARAM_START_INACTIVE:-false}"
noop="${BOLT_NOOP:-0}"

stop() { echo "$2" >&2; exit "$1"; }

# The launcher has checked all this; a script that restarts things as root checks again.
[[ $unit =~ ^[A-Za-z0-9][A-Za-z0-9@._:-]*$ ]] || stop 2 "service: not the name of a unit"
[[ $start_wait =~ ^[0-9]{1,4}$ && $settle =~ ^[0-9]{1,4}$ ]] || stop 2 "start_wait, settle: not numbers of seconds"
[[ $unit == *.* ]] || unit+=.service

case $unit in
bolt-* | systemd-* | dbus.* | dbus-broker.* | init.scope | *.target | *.slice | *.mount | *.device)
    stop 2 "$unit is never restarted by this action: the host or Bolt itself depends on it"
    ;;
esac

allowed=no
IFS=', ' read -r -a patterns <<<"${BOLT_CONFIG_RESTART_ALLOW:-}"
for pattern in ${patterns[@]+"${patterns[@]}"}; do # An empty array is "unbound" to bash 4.2.
    [[ $pattern =~ ^[A-Za-z0-9@._:*-]+$ ]] || stop 2 "restart_allow in the configuration of the pack holds something that is not a pattern of units"
    # shellcheck disable=SC2053  # The right side is meant as a pattern.
    [[ $unit == $pattern ]] && allowed=yes
done
[[ $allowed == yes ]] ||
    stop 2 "$unit may not be restarted on this host: add it to restart_allow in /etc/bolt/packs/linux.yaml (allowed now: ${BOLT_CONFIG_RESTART_ALLOW:-nothing})"

command -v systemctl >/dev/null || stop 3 "there is no systemctl on this host; this action restarts systemd units only"
manager=$(timeout 10 systemctl is-system-running 2>/dev/null)
case $manager in
"" | offline | unknown) stop 3 "systemd is not running here (a container?); this action restarts systemd units only" ;;
esac

# Sets load, active, sub, pid and restarts.
load="" active="" sub="" pid=0 restarts=0
look() {
    local key value
    load="" active="" sub="" pid=0 restarts=0
    while IFS='=' read -r key value; do
        case $key in
        LoadState) [[ $value =~ ^[a-z-]+$ ]] && load=$value ;;
        ActiveState) [[ $value =~ ^[a-z-]+$ ]] && active=$value ;;
        SubState) [[ $value =~ ^[a-z-]+$ ]] && sub=$value ;;
        MainPID) [[ $value =~ ^[0-9]{1,10}$ ]] && pid=$value ;;
        NRestarts) [[ $value =~ ^[0-9]{1,10}$ ]] && restarts=$value ;;
        esac
    done < <(timeout 15 systemctl show --no-pager --property=LoadState,ActiveState,SubState,MainPID,NRestarts -- "$unit")
}

state_json() { REPLY="{\"state\": \"$active\", \"detail\": \"$sub\", \"main_pid\": $pid}"; }

# Writes the result; the arguments are what happened and whether the service is well.
result() {
    state_json
    [[ -z ${BOLT_RESULT:-} ]] ||
        echo "{\"service\": \"$unit\", \"noop\": $([[ $noop == 1 ]] && echo true || echo false), \"outcome\": \"$1\", \"healthy\": $2, \"before\": $before, \"after\": $REPLY, \"seconds\": $((SECONDS - began))}" >"$BOLT_RESULT"
}

began=$SECONDS
look
[[ -n $load ]] || stop 3 "systemctl show $unit does not answer"
[[ $load == loaded ]] || stop 2 "$unit is not loaded ($load); check its name with linux.service_status"
state_json
before=$REPLY
echo "before: $unit is $active ($sub), main pid $pid"

if [[ $active == inactive && $start_inactive != true && $start_inactive != 1 ]]; then
    result refused_inactive false
    stop 2 "$unit is stopped, perhaps on purpose, and was left so; give start_inactive=true to start it"
fi
if [[ $noop == 1 ]]; then
    echo "noop: would restart $unit and wait up to ${start_wait}s until it is active, then ${settle}s to see that it stays so"
    result would_restart "$([[ $active == active ]] && echo true || echo false)"
    exit 0
fi

old_pid=$pid
timeout --signal=TERM "$((start_wait + 1))" systemctl restart -- "$unit"
status=$?
((status == 124)) && echo "systemctl restart has not returned after ${start_wait}s; systemd goes on with it"

deadline=$((began + start_wait))
while look && [[ $active != active && $active != failed ]] && ((SECONDS < deadline)); do
    sleep 0.5
done
new_pid=$pid new_restarts=$restarts
if [[ $active == active ]]; then
    # Active is not yet well: a process that dies at once is restarted by systemd and looks active again.
    sleep "$settle"
    look
fi
echo "after:  $unit is $active ($sub), main pid $pid"

if [[ $active != active ]]; then
    result not_active false
    stop 1 "$unit is $active after the restart; see linux.service_status for its log"
fi
if [[ $pid != "$new_pid" || $restarts != "$new_restarts" ]]; then
    result unstable false
    stop 1 "$unit was restarted again by systemd within ${settle}s: it does not stay up"
fi
if ((status != 0)); then
    result restart_failed false
    stop 1 "systemctl restart ended with status $status, though $unit is active"
fi
if ((old_pid != 0 && pid == old_pid)); then
    result same_process false
    stop 1 "$unit still has main pid $pid: it was not restarted"
fi
result restarted true
echo "$unit is active and has stayed so for ${settle}s"
