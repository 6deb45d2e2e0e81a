#!/bin/sh
# A program that takes a while to become the agent.
[ "$1" != agent ] || sleep 2
exec /opt/ors/lab/upgrade/b/orscore "$@"
