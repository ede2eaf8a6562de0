#!/bin/sh
# Ignores TERM, and hides a child behind a new session and a double fork.
trap '' TERM
(setsid sh -c 'trap "" TERM; echo "hidden child is up"; while :; do sleep 1; done' &)
echo "nothing ends me"
while :; do sleep 1; done
