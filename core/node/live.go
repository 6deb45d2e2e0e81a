package node

import (
	"sync"
	"time"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/drive"
	"github.com/orscore/ors/core/storage"
	"github.com/orscore/ors/core/store"
)

// live is what workers have seen last, for people and for probes. Nothing is decided on it.
type live struct {
	mu      sync.Mutex
	cfg     *config.Config
	units   []unitView
	groups  []groupView
	alarms  []control.Alarm
	partner partnerView
	tails   map[chan store.Record]struct{}
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
}

type partnerView struct {
	boot        uint32
	incarnation uint16
	differs     bool
	status      *peerStatus
	statusAt    time.Time
}

func (l *live) init(c *config.Config) {
	l.cfg = c
	l.tails = map[chan store.Record]struct{}{}
	l.units = make([]unitView, len(c.Units()))
	for i := range c.Groups {
		g := groupView{since: time.Now()}
		for _, a := range c.Groups[i].Applications {
			g.apps = append(g.apps, control.Application{Name: a.Name, Kind: a.Kind, State: "stopped"})
		}
		l.groups = append(l.groups, g)
	}
}

func (l *live) unitState(i int, st storage.State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.units[i] = unitView{state: st}
}

func (l *live) unitError(i int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.units[i].err = err.Error()
}

func (l *live) groupWhy(g int, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.groups[g].why, l.groups[g].since = text, time.Now()
}

// groupPhase notes the phase of the newest note and reports whether it is another one than before.
func (l *live) groupPhase(g int, phase string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	moved := l.groups[g].phase != phase
	l.groups[g].phase = phase
	return moved
}

func (l *live) drives(g int, m []drive.Mounted) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.groups[g].mounted = append([]drive.Mounted(nil), m...)
}

func (l *live) mounted(g int) []drive.Mounted {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.groups[g].mounted
}

func (l *live) application(g int, name, state, health, detail string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.groups[g].apps {
		if a := &l.groups[g].apps[i]; a.Name == name {
			a.State, a.Health, a.Detail = state, health, detail
			if health == "failed" {
				a.State = "failed"
			}
		}
	}
}

func (l *live) partnerConfig(differs bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partner.differs = differs
}

// partnerIdentity notes who the partner is now and returns who it was; zeros when it was not known.
func (l *live) partnerIdentity(boot uint32, inc uint16) (uint32, uint16) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, i := l.partner.boot, l.partner.incarnation
	l.partner.boot, l.partner.incarnation = boot, inc
	return b, i
}

func (l *live) setAlarm(code, group, text, next string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.alarms {
		if a := &l.alarms[i]; a.Code == code && a.Group == group {
			a.Text, a.Next = text, next
			return
		}
	}
	l.alarms = append(l.alarms, control.Alarm{Code: code, Group: group, Text: text, Next: next, Since: time.Now()})
}

func (l *live) clearAlarm(code, group string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := l.alarms[:0]
	for _, a := range l.alarms {
		if a.Code != code || a.Group != group {
			kept = append(kept, a)
		}
	}
	l.alarms = kept
}

// tail subscribes to the journal's records as they are made; a slow reader misses some.
func (l *live) tail() (<-chan store.Record, func()) {
	c := make(chan store.Record, 64)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tails[c] = struct{}{}
	return c, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.tails, c)
	}
}

func (l *live) progress(r store.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.tails {
		select {
		case c <- r:
		default:
		}
	}
}
