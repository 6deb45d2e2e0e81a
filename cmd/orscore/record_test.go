package main

import (
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/orscore/ors/core/decision"
	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/ledger"
	"github.com/orscore/ors/core/store"
)

// ledgers writes the ledgers of two servers of which the second has taken a unit from the first: `ledgers A B`; and,
// with a third word, those of a switch that has then given it back without being asked for the newest key.
func ledgers(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: ledgers DIR DIR [broken]")
	}
	var stores [2]*store.Store
	var recs [2]*ledger.Recorder
	for i := range stores {
		var err error
		stores[i], err = store.Open(ts.MkAbs(args[i]))
		ts.Check(err)
		recs[i] = ledger.New(ledger.Options{
			Log: stores[i].Ledger(), Self: failover.Server(i + 1), Servers: [2]string{"rocky", "apollo"},
			Units: []ledger.Unit{{Name: "storage2", Group: "rocky"}}, Boot: "boot", Incarnation: 1,
		})
	}
	swap := func(i int, old, next failover.Key) failover.Key {
		recs[i].Ask(0, 1, old, next)
		recs[i].Swapped(0, 1, old, next)
		return next
	}
	k := swap(0, failover.Key{}, failover.Key{}.Claimed(failover.First))
	recs[0].Group(ledger.Attach, "rocky", 2)
	swap(1, k, k.Won(failover.Second, 1))
	recs[1].Group(ledger.Attach, "rocky", 2)
	if len(args) > 2 {
		swap(0, k, k.Claimed(failover.First))
	}
	for i := range stores {
		recs[i].Close()
		ts.Check(stores[i].Close())
	}
}

// decisions writes two decisions of rocky into a state directory: the partner is heard, then the storage turns out to
// be with the partner. With a second word, the first one is on record with another outcome: `decisions DIR [broken]`.
func decisions(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: decisions DIR [broken]")
	}
	st, err := store.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	p := failover.Defaults(2_000)
	p.Self, p.Units = failover.First, []failover.UnitParams{{Group: 0}}
	p.Groups = []failover.GroupParams{{Primary: failover.First, Units: []int{0}}}
	s := failover.New(&p, failover.Hard{}, 1)
	names := decision.Names{Servers: [2]string{"rocky", "apollo"}, Groups: []string{"rocky"}, Units: []string{"storage2"}}
	rec := decision.NewRecorder(7)
	at := time.Date(2026, 11, 23, 17, 37, 5, 0, time.UTC)
	step := func(e failover.Event) {
		next, actions := failover.Step(&p, s, e)
		if id, about, _ := rec.Pick(&names, &s, &next, actions); id != "" {
			d := decision.Decision{ID: id, At: at, Server: "rocky", Version: "test", Rules: decision.Rules(), Names: names,
				Links: []decision.Link{{Name: "cable", Ever: true, Age: time.Millisecond}}, About: about, Params: p,
				Before: s, Event: e, Actions: actions}
			if len(args) > 1 && id == "7.1" {
				d.Actions = nil
			}
			r, err := d.Record(&next)
			ts.Check(err)
			st.Decisions().Note(r)
			st.Note(store.Record{ID: id, At: at, Kind: store.KindVerdict, Text: "Something was decided."})
		}
		s = next
	}
	step(failover.Event{Kind: failover.Seen, At: 10, Evidence: failover.Evidence{Links: []failover.LinkEvidence{{Ever: true}}}})
	step(failover.Event{Kind: failover.UnitRead, At: 20, Op: s.Units[0].ReadOp, Key: failover.Key{Owner: failover.Second, N: 4}})
	ts.Check(st.Close())
}
