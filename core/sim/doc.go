// Package sim runs two whole nodes against each other on virtual time, under faults, and looks whether what DESIGN §2
// promises holds. The nodes are real: decision, node logic, detector, sessions and frames, and the slots of the state
// files. Switches, units, links, disks and applications are models.
//
// A seed decides everything: one queue of happenings, no goroutine and no clock below Run. What it draws is a Script,
// which can be kept, cut down and run again. This package must never touch a real device, and a checker of it must
// never look the other way because the product cannot do better.
package sim
