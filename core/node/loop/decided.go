package loop

import (
	"time"

	"github.com/orscore/ors/core/decision"
	"github.com/orscore/ors/core/failover"
)

// decisions picks out of all steps those that are kept.
type decisions struct {
	recorder *decision.Recorder
	names    decision.Names
	rules    string
	id       string // of the decision that is being carried out: what is recorded meanwhile bears it
}

func (lp *Loop) initDecisions() {
	d := &lp.decisions
	d.recorder, d.rules = decision.NewRecorder(lp.o.Incarnation), decision.Rules()
	d.names.Servers = [2]string{lp.cfg.ServerName(failover.First), lp.cfg.ServerName(failover.Second)}
	for i := range lp.cfg.Groups {
		d.names.Groups = append(d.names.Groups, lp.cfg.Groups[i].Name)
	}
	for i := range lp.cfg.Units() {
		d.names.Units = append(d.names.Units, lp.unitName(i))
	}
}

// decided hands a step that was a decision to whoever keeps them, with what it rested on. The state before it is not
// changed any more, so that it can be written down later.
func (lp *Loop) decided(before failover.State, e failover.Event, unrecorded bool, actions []failover.Action) {
	if lp.o.Decided == nil {
		return
	}
	d := &lp.decisions
	id, about, renewals := d.recorder.Pick(&d.names, &before, &lp.state, actions)
	d.id = id
	if id == "" {
		return
	}
	now := lp.now()
	rec := decision.Decision{
		ID: id, At: now, Server: lp.self, Version: lp.o.Version, Rules: d.rules, Names: d.names, About: about,
		Renewals: renewals, Params: lp.params, Before: before, Event: e, Unrecorded: unrecorded, Actions: actions,
	}
	for _, l := range lp.detector.View(now).Links {
		rec.Links = append(rec.Links, decision.Link{Name: l.Name, Ever: l.Ever, Age: max(0, l.Age.Round(time.Microsecond))})
	}
	lp.o.Decided(rec, lp.state)
}
