#!/bin/bash
# Shows memory: free memory, swap, pressure stalls, OOM kills, and cgroups close to their limit. Uses builtins and /proc
# only and starts no process, so that it works when none can be started.
set -u
LC_ALL=C

near="${BOLT_PARAM_NEAR_PERCENT:-90}"
top="${BOLT_PARAM_TOP:-20}"

# Replaces unsafe characters in names of cgroups, which other programs choose, with '?'. The result is safe in JSON.
plain() { REPLY="${1//[^A-Za-z0-9_.:@\/+=,-]/?}"; REPLY="${REPLY:0:160}"; }

# Reads the first whole number of a file, from one line of at most 64 characters.
number() {
    local text=""
    REPLY=""
    { IFS= read -r -n 64 text <"$1" || [[ -n $text ]]; } 2>/dev/null || return 1
    [[ $text =~ ^[0-9]{1,18}$ ]] && REPLY="$text"
}

# Reads the value of a key from a file of "key value" lines.
value_of() {
    local key value rest
    REPLY=""
    while read -r key value rest; do
        [[ $key == "$2" && $value =~ ^[0-9]{1,18}$ ]] && REPLY="$value" && return 0
    done 2>/dev/null <"$1"
    return 1
}

human() {
    local bytes=$1 unit
    for unit in B KiB MiB GiB TiB; do
        if ((bytes < 10240)) || [[ $unit == TiB ]]; then REPLY="$bytes$unit"; return; fi
        bytes=$((bytes / 1024))
    done
}

meminfo() { # key -> bytes in REPLY, 0 if the kernel has no such line
    value_of /proc/meminfo "$1:" || REPLY=0
    REPLY=$((REPLY * 1024))
}

if [[ ! -r /proc/meminfo ]]; then
    echo "cannot read /proc/meminfo" >&2
    exit 3
fi
declare -A memory
for key in MemTotal MemAvailable MemFree Cached Dirty Shmem SReclaimable SUnreclaim SwapTotal SwapFree; do
    meminfo $key
    memory[$key]=$REPLY
done
swap_used=$((memory[SwapTotal] - memory[SwapFree]))
((memory[MemTotal] > 0)) || { echo "/proc/meminfo has no MemTotal" >&2; exit 3; }
available_percent=$((memory[MemAvailable] * 100 / memory[MemTotal]))

echo "Memory"
for key in MemTotal MemAvailable MemFree Cached Dirty Shmem SReclaimable SUnreclaim SwapTotal SwapFree; do
    human "${memory[$key]}"
    printf '  %-14s %10s\n' "$key" "$REPLY"
done
echo "  $available_percent% of the memory is available"

# /proc/pressure/memory: some avg10=0.00 avg60=0.00 avg300=0.00 total=0
echo
echo "Pressure: percentage of the last 10, 60 and 300 s in which some or all tasks waited for memory"
pressure=""
if [[ -r /proc/pressure/memory ]]; then
    while read -r kind ten sixty three rest; do
        [[ $kind =~ ^(some|full)$ && $ten =~ ^avg10=([0-9]+\.[0-9]+)$ ]] || continue
        ten=${BASH_REMATCH[1]}
        [[ $sixty =~ ^avg60=([0-9]+\.[0-9]+)$ ]] || continue
        sixty=${BASH_REMATCH[1]}
        [[ $three =~ ^avg300=([0-9]+\.[0-9]+)$ ]] || continue
        three=${BASH_REMATCH[1]}
        printf '  %-5s %6s%% %6s%% %6s%%\n' "$kind" "$ten" "$sixty" "$three"
        pressure+="${pressure:+, }\"$kind\": {\"avg10\": $ten, \"avg60\": $sixty, \"avg300\": $three}"
    done 2>/dev/null </proc/pressure/memory
fi
[[ -n $pressure ]] || echo "  not measured by this kernel (CONFIG_PSI, psi=1)"

oom_kills=null
if value_of /proc/vmstat oom_kill; then oom_kills=$REPLY; fi
swapped_in=0 swapped_out=0
value_of /proc/vmstat pswpin && swapped_in=$REPLY
value_of /proc/vmstat pswpout && swapped_out=$REPLY
echo
echo "Since boot: OOM kills ${oom_kills/null/not counted by this kernel}, pages swapped in $swapped_in, out $swapped_out"

# Cgroups, version 2 or 1, up to three levels deep, with OOM kills or near their limit.
groups="" found=0 checked=0 complete=true
shopt -s nullglob
check_group() { # directory, file of the usage, file of the limit, file with the oom_kill counter
    local used limit=0 kills=0 percent=0
    number "$1/$2" || return
    used=${REPLY:-0}
    number "$1/$3" && limit=${REPLY:-0}
    # No limit is "max" in version 2 and a number above all memory in version 1.
    ((limit > memory[MemTotal])) && limit=0
    value_of "$1/$4" oom_kill && kills=$REPLY
    ((limit > 0)) && percent=$((used * 100 / limit))
    ((kills > 0 || (limit > 0 && percent >= near))) || return
    ((found < top)) || { complete=false; return; }
    found=$((found + 1))
    plain "${1#"$base"}"
    groups+="${groups:+, }{\"cgroup\": \"${REPLY:-/}\", \"used\": $used, \"limit\": $limit, \"oom_kills\": $kills}"
    local name=${REPLY:-/}
    human "$used"; local shown_used=$REPLY
    human "$limit"; local shown_limit=$REPLY
    ((limit > 0)) || shown_limit="no limit"
    printf '  %10s of %-10s %6s OOM kills  %s\n' "$shown_used" "$shown_limit" "$kills" "$name"
}
echo
echo "Cgroups with OOM kills, or above $near% of their limit"
for base in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/memory; do
    for directory in "$base" "$base"/* "$base"/*/* "$base"/*/*/*; do
        [[ -d $directory && ! -L $directory ]] || continue
        checked=$((checked + 1))
        if ((checked > 20000)); then complete=false; break; fi
        if [[ -e $directory/memory.current ]]; then
            check_group "$directory" memory.current memory.max memory.events
        elif [[ $base == */memory && -e $directory/memory.usage_in_bytes ]]; then
            check_group "$directory" memory.usage_in_bytes memory.limit_in_bytes memory.oom_control
        fi
    done
done
((found > 0)) || echo "  none"
[[ $complete == true ]] || echo "  not all are shown"

[[ -n ${BOLT_RESULT:-} ]] || exit 0
cat_result() {
    echo "{\"total\": ${memory[MemTotal]}, \"available\": ${memory[MemAvailable]}, \"available_percent\": $available_percent,"
    echo "\"free\": ${memory[MemFree]}, \"cached\": ${memory[Cached]}, \"dirty\": ${memory[Dirty]}, \"shared\": ${memory[Shmem]},"
    echo "\"slab_reclaimable\": ${memory[SReclaimable]}, \"slab_unreclaimable\": ${memory[SUnreclaim]},"
    echo "\"swap_total\": ${memory[SwapTotal]}, \"swap_used\": $swap_used,"
    echo "\"pages_swapped_in\": $swapped_in, \"pages_swapped_out\": $swapped_out, \"oom_kills\": $oom_kills,"
    echo "\"pressure\": {$pressure}, \"cgroups\": [$groups], \"complete\": $complete}"
}
cat_result >"$BOLT_RESULT"
