//go:build !orsfault || !linux

package faultpoint

// Enabled says whether this build has fault points.
const Enabled = false

// At does nothing in this build.
func At(string) {}
