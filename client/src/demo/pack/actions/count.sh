#!/bin/sh
# Prints a line a second, so that there is something to follow.
n=0
while [ "$n" -lt "$BOLT_PARAM_SECONDS" ]; do
  n=$((n + 1))
  echo "second $n of $BOLT_PARAM_SECONDS on $BOLT_INSTANCE_ID"
  sleep 1
done
