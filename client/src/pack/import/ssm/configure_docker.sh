#!/bin/sh
# Supplied by `bolt pack import`: what the agent of Systems Manager does for aws:configureDocker on Amazon Linux.
set -eu
. /etc/os-release
if [ "${ID:-}" != amzn ]; then
  echo "aws:configureDocker is supported on Amazon Linux only, and this is ${NAME:-another system}" >&2
  exit 1
fi
# The agent logs what these print, and its steps fail with 1.
run() {
  "$@" >&2 || { echo "Error running $1 $2" >&2; exit 1; }
}
case ${1:-} in
  Install)
    echo "Installing docker through yum"
    run yum install -y docker
    echo "Updating docker through yum"
    run yum update -y docker
    echo "Starting docker service"
    run service docker start
    echo "Installation complete"
    ;;
  Uninstall)
    echo "Removing docker through yum"
    run yum remove -y docker
    echo "Uninstall complete"
    ;;
  *)
    echo "the action of aws:configureDocker is Install or Uninstall, not ${1:-empty}" >&2
    exit 1
    ;;
esac
