//go:build linux

package scenario

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/orscore/ors/core/store"
	"github.com/orscore/ors/lab/workload"
)

// Measured is where the time of a phase went, in milliseconds. A value that cannot be known is null, and Unknown says
// why.
//
// Outage is what the first workload's client saw: from the last answer before the fault (or the move) to the first
// one after it. It consists of Detection (to the end of the time-out), Overhead and Application (the protected
// program's own stop and start). Agent, Mount, Address and Client are parts of Overhead: the agent's own share by its
// journal, file systems, addresses, and the time that the client needed to notice.
type Measured struct {
	Outage      *float64 `json:"outage_ms"`
	Detection   *float64 `json:"detection_ms"`
	Overhead    *float64 `json:"overhead_ms"`
	Agent       *float64 `json:"agent_ms"`
	Mount       *float64 `json:"mount_ms"`
	Address     *float64 `json:"address_ms"`
	Application *float64 `json:"application_ms"`
	Client      *float64 `json:"client_ms"`
	Unknown     string   `json:"unknown,omitempty"`
	steps       []TimedStep
}

// addressKind is the plugin whose applications are addresses.
const addressKind = "ipset"

// line shows all parts but the outage, for people.
func (m *Measured) line() string {
	var parts []string
	for _, p := range []struct {
		name  string
		value *float64
	}{
		{"detection", m.Detection}, {"overhead", m.Overhead}, {"agent", m.Agent}, {"mount", m.Mount}, {"address", m.Address},
		{"application", m.Application}, {"client", m.Client},
	} {
		parts = append(parts, p.name+" "+showMS(p.value))
	}
	return strings.Join(parts, " ")
}

func showMS(v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.0f", *v)
}

func ms(d time.Duration) *float64 {
	v := float64(d.Microseconds()) / 1000
	return &v
}

// measure looks at the phase up to now.
func (r *Runner) measure(ctx context.Context) (*Measured, error) {
	from := r.fault
	if from.IsZero() {
		from = r.phase.began
	}
	records, kinds, err := r.journals(ctx, from)
	if err != nil {
		return nil, err
	}
	m := &Measured{}
	c := r.primary()
	if c == nil {
		m.Unknown = "no workload was started"
		m.steps = r.timeline(from, records, time.Time{})
		return m, nil
	}
	if err := c.log.Refresh(); err != nil {
		return nil, err
	}
	out := workload.Longest(c.log.Entries, from, time.Now())
	served := out.To
	if out.Open {
		m.Unknown, served = "the service has not been answered again", time.Time{}
	} else {
		m.Outage = ms(out.Length())
		now, err := r.moves()
		if err != nil {
			return nil, err
		}
		account(m, takenFrom(records, kinds, out), !maps.Equal(now, r.phase.moves), from, out)
	}
	m.steps = r.timeline(from, records, served)
	return m, nil
}

// primary is the client whose outage is measured: the first one of the scenario that writes rows, else the first
// workload.
func (r *Runner) primary() *client {
	var first *client
	for _, w := range r.Scenario.Workloads {
		c := r.clients[w.Name]
		if c == nil {
			continue
		}
		if w.writesRows() && !w.Patient {
			return c
		}
		if first == nil {
			first = c
		}
	}
	return first
}

// taken is what the journals say about an outage.
type taken struct {
	timeout time.Time     // end of the detection time-out before the first claim; zero: nobody was lost
	active  time.Time     // the group was up again; zero: no group came up
	whole   time.Duration // of the applications' stops and starts
	seen    time.Duration // the part of whole before the client was served: a check may notice later than the client
	address time.Duration
	mount   time.Duration
}

// takenFrom adds up the steps that were made within the outage.
func takenFrom(records []store.Record, kinds map[string]string, out workload.Outage) taken {
	var t taken
	claimed := false
	for _, rec := range records {
		if rec.Kind == "verdict" && rec.Data["verdict"] == "lost" && !claimed {
			if text, ok := rec.Data["timeout_at"].(string); ok {
				t.timeout, _ = time.Parse(time.RFC3339Nano, text) // zero when the agent wrote something else
			}
		}
		name, app, _ := strings.Cut(rec.Step, " ")
		claimed = claimed || name == "claim"
		took, _ := rec.Data["duration_ms"].(float64)
		d := time.Duration(took * float64(time.Millisecond))
		begun := rec.At.Add(-d)
		if rec.Kind != "step" || rec.At.Before(out.From) || begun.After(out.To) {
			continue
		}
		switch {
		case name == "attached", name == "detached":
			t.mount += d
		case (name == "app-up" || name == "app-stopped") && kinds[rec.Group+"/"+app] == addressKind:
			t.address += d
		case name == "app-up", name == "app-stopped":
			t.whole += d
			t.seen += min(d, out.To.Sub(begun))
			if name == "app-up" {
				t.active = rec.At
			}
		}
	}
	return t
}

// account splits the outage up. Where no unit has moved there is nothing to split: the service was down for as long
// as its server was, or not at all.
func account(m *Measured, t taken, moved bool, from time.Time, out workload.Outage) {
	if !moved || t.active.IsZero() {
		if t.whole > 0 {
			m.Application = ms(t.seen)
		}
		m.Unknown = "no unit has moved: there is no takeover to split up"
		return
	}
	begin := out.From // a planned move: all of the outage is work
	m.Detection = ms(0)
	if !t.timeout.IsZero() {
		begin = t.timeout
		m.Detection = ms(t.timeout.Sub(from))
	}
	m.Application, m.Address, m.Mount = ms(t.seen), ms(t.address), ms(t.mount)
	m.Overhead = ms(out.To.Sub(begin) - t.seen)
	m.Agent = ms(t.active.Sub(begin) - t.whole - t.address - t.mount)
	m.Client = ms(max(0, out.To.Sub(t.active)))
}

// journals reads the records of all servers that can be asked, from a time on, in order of time, and the kinds of all
// applications by "group/name".
func (r *Runner) journals(ctx context.Context, from time.Time) ([]store.Record, map[string]string, error) {
	var all []store.Record
	kinds := map[string]string{}
	if r.Brief {
		return nil, kinds, nil
	}
	for _, s := range r.Scenario.Setup.Servers {
		if !r.pair.AgentRuns(s.Name) {
			continue
		}
		out, code, err := r.pair.Run(ctx, s.Name, "orscore", "events", "--json", "--last", "0")
		if err != nil || code != 0 {
			continue // an agent that is starting, paused or ending has no words; the other one's journal counts
		}
		records, err := parseRecords(out)
		if err != nil {
			return nil, nil, fmt.Errorf("journal of %s: %w", s.Name, err)
		}
		for _, rec := range records {
			if !rec.At.Before(from) {
				all = append(all, rec)
			}
		}
		st, err := r.status(ctx, s.Name)
		if err != nil {
			continue
		}
		for _, g := range st.Groups {
			for _, a := range g.Applications {
				kinds[g.Name+"/"+a.Name] = a.Kind
			}
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].At.Before(all[j].At) })
	return all, kinds, nil
}

func parseRecords(out string) ([]store.Record, error) {
	var all []store.Record
	in := bufio.NewScanner(strings.NewReader(out))
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		if strings.TrimSpace(in.Text()) == "" {
			continue
		}
		var rec store.Record
		if err := json.Unmarshal(in.Bytes(), &rec); err != nil {
			return nil, fmt.Errorf("%q: %w", in.Text(), err)
		}
		all = append(all, rec)
	}
	return all, in.Err()
}

// shownKinds are the kinds of records that a timeline shows.
var shownKinds = []string{"step", "verdict", "arbitration", "link", "operator"}

// timeline puts the scenario's steps, the journals' and the client's observations in order.
func (r *Runner) timeline(from time.Time, records []store.Record, served time.Time) []TimedStep {
	all := append([]TimedStep(nil), r.phase.steps...)
	for _, rec := range records {
		if !slices.Contains(shownKinds, rec.Kind) {
			continue
		}
		name := rec.Server + ": " + rec.Step
		if rec.Group != "" {
			name = rec.Server + ": " + rec.Group + ": " + rec.Step
		}
		all = append(all, TimedStep{Name: name, Text: rec.Text, at: rec.At})
	}
	if !served.IsZero() {
		all = append(all, TimedStep{Name: "client: served", Text: "The first answer after the longest silence.", at: served})
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].at.Before(all[j].at) })
	for i := range all {
		all[i].AtMS = *ms(all[i].at.Sub(from))
	}
	return all
}
