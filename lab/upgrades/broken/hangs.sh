#!/bin/sh
# A program that answers as orscore does, and does nothing at all once it is the agent.
[ "$1" != agent ] || exec sleep 600
exec /opt/ors/lab/upgrade/b/orscore "$@"
