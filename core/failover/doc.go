// Package failover decides. It holds the decision of one server of a pair as data: a table of rows for each group, a
// truth table for the verdict on the partner, and the arbitration that breaks the tie when both live and no link does.
//
// [Step] is total, deterministic and pure. It has no clock, no randomness, no goroutine, no map order and no I/O:
// time enters as ticks of one millisecond, the rest as events, and what is to be done leaves as actions. The caller
// persists the [Hard] part of the state before it carries out any action (core/node does). This package must never
// import more than a few packages of the standard library.
package failover
