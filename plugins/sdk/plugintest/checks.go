package plugintest

// need is what has to be there for a check.
type need int

const (
	nothing     need = iota // the plugin's process
	application             // a configuration of an application that can be started
	process                 // and this system shows its processes
)

const handshakeCheck = "handshake"

// check is one promise of the contract, and how it is put to the test.
type check struct {
	name  string
	what  string // the promise, as docs/plugins.md has it
	needs need
	run   func(*kit) (evidence string, err error)
}

// checks are all of them, in the order in which they are made: those that need least come first.
var checks []check

func init() { // a variable's own initializer would refer to itself
	checks = []check{
		{handshakeCheck, "one line on standard output, as the protocol has it, within 10 s", nothing, (*kit).handshake},
		{"cookie", "started by hand, without the core, it says so and ends", nothing, (*kit).cookie},
		{"mutual-tls", "nobody but the core that started it is answered", nothing, (*kit).mutualTLS},
		{"info", "a kind as its program is named, a semantic version, one sentence", nothing, (*kit).infoSays},
		{"schema", "names, types and defaults are such as HCL knows, and each attribute is described", nothing,
			(*kit).schemaHolds},
		{"unasked", "Events and Renew are served as Info says, and are unimplemented otherwise", nothing, (*kit).optional},
		{"validate-bad", "a configuration that is none is refused with a problem", nothing, (*kit).validateBad},
		{"validate-good", "a good configuration is accepted", application, (*kit).validateGood},
		{"ready", "a server that could start the application is ready", application, (*kit).readySays},
		{"ready-standby", "it is ready where the drives are at the partner, too", application, (*kit).readyStandby},
		{"no-change", "Validate, Ready, Recover and Probe change nothing", application, (*kit).noChange},
		{"deadlines", "each call about what does not run is answered in its time", application, (*kit).deadlines},
		{"recover-never-started", "what was never started here is STOPPED", application, (*kit).recoverNeverStarted},
		{"stop-stopped", "what does not run is stopped, and killed, with success", application, (*kit).stopStopped},
		{"start", "a start tells its steps and ends with a handle; then it runs and is healthy", application,
			(*kit).startRuns},
		{"steps", "a start tells at least one step, so that who waits sees what for", application, (*kit).startSteps},
		{"start-twice", "a second start answers with the handle and starts nothing", application, (*kit).startTwice},
		{"start-beside", "a start that comes during another one waits for it, and starts nothing beside it", application,
			(*kit).startBeside},
		{"repeat", "an operation that comes again acts once", application, (*kit).repeat},
		{"sentences", "each answer comes with a sentence for people", application, (*kit).sentences},
		{"recover-without-handle", "what runs is not STOPPED because the core has no handle", application,
			(*kit).recoverWithoutHandle},
		{"handle-unknown", "a handle that it cannot read is no proof that nothing runs", application, (*kit).handleUnknown},
		{"handle-previous", "the handles of the release before are read", application, (*kit).handlePrevious},
		{"concurrent-calls", "calls are answered beside each other", application, (*kit).concurrentCalls},
		{"stop", "after STOPPED nothing runs, and the probe does not say OK", application, (*kit).stopStops},
		{"stop-twice", "a second stop succeeds", application, (*kit).stopTwice},
		{"kill", "after Kill nothing runs", application, (*kit).killKills},
		{"kill-twice", "a second kill succeeds", application, (*kit).killTwice},
		{"kill-during-start", "a kill cuts a start short, and nothing comes after it", application, (*kit).killDuringStart},
		{"kill-during-stop", "a kill does not wait for a stop that an application keeps waiting", process,
			(*kit).killDuringStop},
		{"start-cut", "after a start that was given up Recover tells what there is, and nothing comes after it", application,
			(*kit).startCut},
		{"stale-epoch", "an older epoch is refused, and changes nothing", application, (*kit).staleEpoch},
		{"stale-epoch-after-restart", "also by a plugin that was started again", application, (*kit).staleEpochAfterRestart},
		{"epochs-per-application", "the epoch of one application says nothing of another", application,
			(*kit).epochsPerApplication},
		{"renew", "a lease in its order only, and none that has ended", application, (*kit).renew},
		{"renew-time", "a renewal is answered within 1 s, also beside a probe", application, (*kit).renewTime},
		{"plugin-killed", "the application outlives its plugin, and is found", application, (*kit).pluginKilled},
		{"plugin-ends", "it ends when asked to, in 3 s, and leaves its applications alone", application, (*kit).pluginEnds},
		{"core-gone", "it ends within 10 s of the core, and leaves its applications alone", process, (*kit).coreGone},
		{"plugin-killed-in-start", "after a start that broke off Recover tells what there is", application,
			(*kit).pluginKilledInStart},
		{"one-copy", "after a start that broke off, another one leaves one copy running", process, (*kit).oneCopy},
		{"application-killed", "an application that was killed is neither OK nor RUNNING", application,
			(*kit).applicationKilled},
		{"pid-reuse", "another process with the same pid is not the application, and is left alone", process,
			(*kit).pidReuse},
		{"probe-hang", "an application that hangs holds up neither its probe nor other calls", process, (*kit).probeHang},
		{"stop-hung-application", "an application that hangs is stopped, within the deadline", process, (*kit).stopHung},
		{"holds-nothing", "the application holds nothing of its plugin: standard output, log", process, (*kit).holdsNothing},
		{"stdout", "nothing but the handshake is printed on standard output", nothing, (*kit).stdout},
		{"log", "no panic and no traceback in the log on standard error", nothing, (*kit).logIsClean},
	}
}

// Checks names all checks in their order.
func Checks() []string {
	var names []string
	for _, c := range checks {
		names = append(names, c.name)
	}
	return names
}

// Promise is what a check looks at, as a sentence without a full stop; empty when there is no such check.
func Promise(name string) string {
	for _, c := range checks {
		if c.name == name {
			return c.what
		}
	}
	return ""
}
