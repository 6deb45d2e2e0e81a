// Package arch holds the borders between the packages of ORS, as tests: who may import whom, what pure packages may not
// call, how long functions and lines may be, which words it may not have, and which tests prove which requirement.
//
// It has no code besides its tests. It must never be imported, and never make an exception for a file by its name: a
// rule that does not fit is changed for all.
package arch
