package main

import (
	"github.com/rogpeppe/go-internal/testscript"

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
