#!/bin/bash
# Restarts a systemd unit that the site allows, and succeeds only if it is active afterwards and stays active.
# Parameters come from the environment and are restricted by the action's file. No value is evaluated by a shell.
set -u
LC_ALL=C
shopt -u nocasematch extglob

unit="${BOLT_PARAM_SERVICE:?}"
start_wait="${BOLT_PARAM_START_WAIT:-60}"
settle="${BOLT_PARAM_SETTLE:-5}"
start_inactive="${BOLT_PARAM_START_INACTIVE:-false}"
noop="${BOLT_NOOP:-0}"

stop() { echo "$2" >&2; exit "$1"; }

# The launcher has checked the parameters; a script that runs as root checks again.
[[ $unit =~ ^[A-Za-z0-9][A-Za-z0-9@._:-]*$ ]] || stop 2 "service: not a valid name of a unit"
[[ $start_wait =~ ^[0-9]{1,4}$ && $settle =~ ^[0-9]{1,4}$ ]] || stop 2 "start_wait, settle: not numbers of seconds"
[[ $unit == *.* ]] || unit+=.service

case $unit in
bolt-* | systemd-* | dbus.* | dbus-broker.* | init.scope | *.target | *.slice | *.mount | *.device)
    stop 2 "this action does not restart $unit: the host or Bolt depends on it"
    ;;
esac

allowed=no
# Not with a here-string: bash before 5.1 needs a temporary file for it, and the disk may be full.
set -f
IFS=', '
# shellcheck disable=SC2206  # Split into words, which are no names of files.
patterns=(${BOLT_CONFIG_RESTART_ALLOW:-})
unset IFS
set +f
for pattern in ${patterns[@]+"${patterns[@]}"}; do # An empty array is "unbound" to bash 4.2.
    [[ $pattern =~ ^[A-Za-z0-9@._:*-]+$ ]] || stop 2 "restart_allow in /etc/bolt/packs/linux.yaml contains an invalid pattern of units"
    # shellcheck disable=SC2053  # The right side is a pattern.
    [[ $unit == $pattern ]] && allowed=yes
done
[[ $allowed == yes ]] ||
    stop 2 "$unit may not be restarted on this host: add it to restart_allow in /etc/bolt/packs/linux.yaml (allowed now: ${BOLT_CONFIG_RESTART_ALLOW:-nothing})"

command -v systemctl >/dev/null || stop 3 "this host has no systemctl; this action restarts systemd units only"
manager=$(timeout 10 systemctl is-system-running 2>/dev/null)
case $manager in
"" | offline | unknown) stop 3 "systemd is not running on this host (a container?); this action restarts systemd units only" ;;
esac

# Sets load, active, sub, pid and restarts.
load="" active="" sub="" pid=0 restarts=0
read_state() {
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

# Writes the result; the arguments are the outcome and whether the service is healthy.
result() {
    state_json
    [[ -z ${BOLT_RESULT:-} ]] ||
        echo "{\"service\": \"$unit\", \"noop\": $([[ $noop == 1 ]] && echo true || echo false), \"outcome\": \"$1\", \"healthy\": $2, \"before\": $before, \"after\": $REPLY, \"seconds\": $((SECONDS - began))}" >"$BOLT_RESULT"
}

began=$SECONDS
read_state
[[ -n $load ]] || stop 3 "systemctl show $unit does not respond"
[[ $load == loaded ]] || stop 2 "$unit is not loaded ($load); check its name with linux.service_status"
state_json
before=$REPLY
echo "before: $unit is $active ($sub), main pid $pid"

if [[ $active == inactive && $start_inactive != true && $start_inactive != 1 ]]; then
    result refused_inactive false
    stop 2 "$unit is stopped, perhaps intentionally, and was not started; use start_inactive=true to start it"
fi
if [[ $noop == 1 ]]; then
    echo "noop: would restart $unit and wait up to ${start_wait}s until it is active, then check for ${settle}s that it stays active"
    result would_restart "$([[ $active == active ]] && echo true || echo false)"
    exit 0
fi

old_pid=$pid
timeout --signal=TERM "$((start_wait + 1))" systemctl restart -- "$unit"
status=$?
((status == 124)) && echo "systemctl restart did not finish within ${start_wait}s; systemd continues"

deadline=$((began + start_wait))
while read_state && [[ $active != active && $active != failed ]] && ((SECONDS < deadline)); do
    sleep 0.5
done
new_pid=$pid new_restarts=$restarts
if [[ $active == active ]]; then
    # Active is not enough: systemd restarts a process that crashes at once, and the unit is active again.
    sleep "$settle"
    read_state
fi
echo "after:  $unit is $active ($sub), main pid $pid"

if [[ $active != active ]]; then
    result not_active false
    stop 1 "$unit is $active after the restart; read its log with linux.service_status"
fi
if [[ $pid != "$new_pid" || $restarts != "$new_restarts" ]]; then
    result unstable false
    stop 1 "systemd restarted $unit again within ${settle}s: it keeps crashing"
fi
if ((status != 0)); then
    result restart_failed false
    stop 1 "systemctl restart failed with status $status, although $unit is active"
fi
if ((old_pid != 0 && pid == old_pid)); then
    result same_process false
    stop 1 "$unit still has main pid $pid: it was not restarted"
fi
result restarted true
echo "$unit is active and stayed active for ${settle}s"
