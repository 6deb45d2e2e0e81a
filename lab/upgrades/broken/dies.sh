#!/bin/sh
# A program that answers as orscore does, and ends as soon as it is the agent.
[ "$1" != agent ] || exit 1
exec /opt/ors/lab/upgrade/b/orscore "$@"
