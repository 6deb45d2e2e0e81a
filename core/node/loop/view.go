package loop

import (
	"sync"
	"time"

	"github.com/orscore/ors/core/arrival"
	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/drive"
	"github.com/orscore/ors/core/storage"
)

// View is what workers have seen last, for people and for probes. Nothing is decided on it. Its methods may be called
// from several goroutines.
type View struct {
	mu      sync.Mutex
	units   []unitView
	groups  []groupView
	alarms  []control.Alarm
	partner partnerView
}

type unitView struct {
	state storage.State
	err   string
}

type groupView struct {
	phase   string // of the newest note
	why     string
	since   time.Time
	mounted []drive.Mounted
	apps    []control.Application
	arrival arrival.Notice // the newest
}

type partnerView struct {
	boot        uint32
	incarnation uint16
	differs     bool
	status      *peerStatus
	statusAt    time.Time
}

func (v *View) init(c *config.Config, now time.Time) {
	v.units = make([]unitView, len(c.Units()))
	for i := range c.Groups {
		g := groupView{since: now}
		for _, a := range c.Groups[i].Applications {
			g.apps = append(g.apps, control.Application{Name: a.Name, Kind: a.Kind, State: "stopped"})
		}
		v.groups = append(v.groups, g)
	}
}

// Unit shows what a unit's switch has answered.
func (v *View) Unit(i int, st storage.State) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.units[i] = unitView{state: st}
}

// UnitError shows why a unit's switch gave no usable answer.
func (v *View) UnitError(i int, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.units[i].err = err.Error()
}

// groupNoted takes the newest note of a group and reports whether its phase is another one than before.
func (v *View) groupNoted(g int, phase, why string, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	gr := &v.groups[g]
	moved := gr.phase != phase
	gr.phase, gr.why, gr.since = phase, why, now
	return moved
}

// Drives shows which drives of a group are mounted here.
func (v *View) Drives(g int, m []drive.Mounted) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.groups[g].mounted = append([]drive.Mounted(nil), m...)
}

// Mounted are the drives of a group that are mounted here, in the order of the configuration.
func (v *View) Mounted(g int) []drive.Mounted {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.groups[g].mounted
}

// Application shows the state of one application here.
func (v *View) Application(g int, name, state, health, detail string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range v.groups[g].apps {
		if a := &v.groups[g].apps[i]; a.Name == name {
			a.State, a.Health, a.Detail = state, health, detail
			if health == "failed" {
				a.State = "failed"
			}
		}
	}
}

func (v *View) partnerConfig(differs bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.partner.differs = differs
}

func (v *View) partnerStatus(s *peerStatus, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.partner.status, v.partner.statusAt = s, now
}

// partnerIdentity notes who the partner is now and returns who it was; zeros when it was not known.
func (v *View) partnerIdentity(boot uint32, inc uint16) (uint32, uint16) {
	v.mu.Lock()
	defer v.mu.Unlock()
	b, i := v.partner.boot, v.partner.incarnation
	v.partner.boot, v.partner.incarnation = boot, inc
	return b, i
}

// SetAlarm raises an alarm that holds until ClearAlarm; the same code of the same group is one alarm.
func (v *View) SetAlarm(code, group, text, next string, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range v.alarms {
		if a := &v.alarms[i]; a.Code == code && a.Group == group {
			a.Text, a.Next = text, next
			return
		}
	}
	v.alarms = append(v.alarms, control.Alarm{Code: code, Group: group, Text: text, Next: next, Since: now})
}

// ClearAlarm ends an alarm.
func (v *View) ClearAlarm(code, group string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	kept := v.alarms[:0]
	for _, a := range v.alarms {
		if a.Code != code || a.Group != group {
			kept = append(kept, a)
		}
	}
	v.alarms = kept
}
