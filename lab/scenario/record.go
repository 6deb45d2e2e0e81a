//go:build linux

package scenario

import (
	"context"
	"fmt"
	"strings"

	"github.com/orscore/ors/core/decision"
	"github.com/orscore/ors/core/ledger"
	"github.com/orscore/ors/core/store"
)

// ownershipProven holds the ledgers of both servers against each other.
func ownershipProven(_ context.Context, r *Runner, _ args) error {
	var l [2]*ledger.Ledger
	for i := range r.Scenario.Setup.Servers {
		var err error
		if l[i], err = ledger.Read(r.pair.StateDir(r.Scenario.Setup.Servers[i].Name)); err != nil {
			return err
		}
	}
	if report := ledger.Audit(l[0], l[1]); report.Verdict != ledger.Proven {
		return fmt.Errorf("the audit says %s:\n%s", report.Verdict, report)
	}
	return nil
}

// lostRecords is the code of a record that says that others could not be written.
const lostRecords = "ORS-6009"

// decisionsReplayed makes every decision of both servers again from what is on record.
func decisionsReplayed(_ context.Context, r *Runner, _ args) error {
	for i := range r.Scenario.Setup.Servers {
		name := r.Scenario.Setup.Servers[i].Name
		log, err := store.ReadLog(r.pair.StateDir(name), store.DecisionsName)
		if err != nil {
			return err
		}
		for _, rec := range log.Records {
			if rec.Code == lostRecords && r.Scenario.Setup.StateSize > 0 {
				continue // its state folder may have been full
			}
			d, err := decision.Decode(rec)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			again, err := d.Replay()
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if !again.Identical {
				return fmt.Errorf("%s: another decision than on record:\n%s", name, d.Explain(again))
			}
		}
	}
	return nil
}

// inJournal: since the phase began, a server has written down something that has these words.
func inJournal(ctx context.Context, r *Runner, a args) error {
	records, _, err := r.journals(ctx, r.phase.began)
	if err != nil {
		return err
	}
	for _, rec := range records {
		if rec.Server == a.word["SERVER"] && strings.Contains(rec.Text, a.word["TEXT"]) {
			return nil
		}
	}
	return fmt.Errorf("nothing in the journal of %s since the phase began has %q", a.word["SERVER"], a.word["TEXT"])
}
