// Package store keeps what must survive the agent: hard state (atomically replaced, two slots, checked), the handles of
// applications, and the event journal (append-only).
//
// It must never say that something is written before it is on the disk, and never repair by guessing: a damaged slot is
// reported and the other one is used. One agent at a time may hold a state directory.
package store
