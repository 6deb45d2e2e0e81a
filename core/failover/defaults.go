package failover

// Defaults are the parameters that do not depend on a pair's groups, derived from the detection time-out where they
// must be.
func Defaults(timeout Tick) Params {
	return Params{
		Survivor:         First,
		Timeout:          timeout,
		ArbitrationDelay: timeout / 5,
		InspectQuiet:     1_000,
		InspectBusy:      100,
		AskAgain:         1_000,
		FinishWindow:     3 * timeout,
		RenewInterval:    timeout / 2,
		RenewTimeout:     3 * timeout,
		Holdoff:          3_000,
		OwnerWait:        5_000,
		UnknownTimeout:   5_000,
		ClaimTimeout:     3_000,
		DetachTimeout:    15_000,
		KillTimeout:      5_000,
		MoveTimeout:      10_000,
		BlockFirst:       30_000,
		BlockMax:         600_000,
	}
}
