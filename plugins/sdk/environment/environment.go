// Package environment names what a started program is told of its group: variables and arguments that are the same for
// every plugin that uses it and for `orscore launch`.
//
// It must never read the environment of this process, nor pass anything of it on.
package environment

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Bits of Values.Status. 0: every drive has its own letter and was mounted without a problem.
const (
	OtherLetter = 1 << iota // a drive has another letter than it is configured with
	Problem                 // a drive was mounted with a problem, of which the agent has raised an alarm
)

// Values is what a program is told. What is empty or zero is left out, but for the status.
type Values struct {
	Group, Application string
	Server             string // this one
	Primary            string // where the group is at home
	Event              string // how the group has come here: takeover, switchover, failback, returned, start, resumed
	From               string // server that had it before
	Status             uint32 // sum of bits
	Attempt            uint32 // which start since the group has come
	Drives             []Drive
}

// Drive is one drive of the group.
type Drive struct {
	Letter     string // as mounted now, such as "E:"
	Path       string // folder below which it is mounted
	Configured string // letter as configured; empty: Letter
}

// Variables are the environment: ORS_GROUP, ORS_APPLICATION, ORS_SERVER, ORS_PRIMARY, ORS_EVENT, ORS_FROM, ORS_STATUS,
// ORS_ATTEMPT, ORS_DRIVES (all letters), for the n-th drive ORS_Dn (its letter) and ORS_Dn_PATH (its folder), and for
// the drive configured as E: ORS_DRIVE_E (its folder, whatever letter it has now).
func (v Values) Variables() map[string]string {
	env := map[string]string{"ORS_STATUS": strconv.FormatUint(uint64(v.Status), 10)}
	for name, value := range map[string]string{
		"ORS_GROUP": v.Group, "ORS_APPLICATION": v.Application, "ORS_SERVER": v.Server, "ORS_PRIMARY": v.Primary,
		"ORS_EVENT": v.Event, "ORS_FROM": v.From,
	} {
		if value != "" {
			env[name] = value
		}
	}
	if v.Attempt > 0 {
		env["ORS_ATTEMPT"] = strconv.FormatUint(uint64(v.Attempt), 10)
	}
	for i, d := range v.Drives {
		n := "ORS_D" + strconv.Itoa(i+1)
		env[n], env[n+"_PATH"] = d.Letter, d.Path
		env["ORS_DRIVE_"+strings.ToUpper(strings.TrimSuffix(d.configured(), ":"))] = d.Path
	}
	if letters := v.Letters(); len(letters) > 0 {
		env["ORS_DRIVES"] = strings.Join(letters, " ")
	}
	return env
}

// Letters are those of the drives as mounted now: d1 … dn.
func (v Values) Letters() []string {
	var out []string
	for _, d := range v.Drives {
		out = append(out, d.Letter)
	}
	return out
}

// Parameters are the status parameters as arguments, "name=value" each, in a fixed order: status, event, group, server,
// from, primary, attempt. A batch file finds them behind the letters.
func (v Values) Parameters() []string {
	out := []string{"status=" + strconv.FormatUint(uint64(v.Status), 10)}
	for _, p := range [][2]string{
		{"event", v.Event}, {"group", v.Group}, {"server", v.Server}, {"from", v.From}, {"primary", v.Primary},
	} {
		if p[1] != "" {
			out = append(out, p[0]+"="+p[1])
		}
	}
	if v.Attempt > 0 {
		out = append(out, "attempt="+strconv.FormatUint(uint64(v.Attempt), 10))
	}
	return out
}

func (d Drive) configured() string {
	if d.Configured == "" {
		return d.Letter
	}
	return d.Configured
}

// List is an environment in the form that the system takes, sorted.
func List(env map[string]string) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(env)) {
		out = append(out, k+"="+env[k])
	}
	return out
}
