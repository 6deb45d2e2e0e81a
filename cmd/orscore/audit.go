package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/orscore/ors/core/control/screen"
	"github.com/orscore/ors/core/ledger"
)

// Exit codes of `orscore audit`.
const (
	auditOverlap    = 1
	auditIncomplete = 2
)

func auditCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "audit LEDGER LEDGER",
		Short: "Prove from both servers' ledgers that ownership never overlapped",
		Long: `Merge the ownership ledgers of the two servers of a pair and prove that no
storage unit ever was with both. A ledger is a state directory, or one file of it
(ledger-….log; of several, oldest first, "cat" makes one). The order is that of
the switch's epochs; the servers' clocks play no part.

Checked are: one owner an epoch; each grant under a newer epoch than all before;
each mount within a grant; nothing released while mounted, and nothing taken
again before left-overs were cleared. A unit that a server still had mounted when
the switch had given it to the other one is a warning, not an overlap: the switch
refuses its writes.

The exit code is 0 when it is proven, 1 when the ledgers contradict it, and 2 when
a ledger cannot be read or something is missing.`,
		Example: "  orscore audit /var/lib/ors /mnt/apollo/var/lib/ors\n  orscore audit rocky.log apollo.log --json",
		Args:    exactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			var l [2]*ledger.Ledger
			var errs []error
			for i, path := range args {
				var err error
				if l[i], err = ledger.Read(path); err != nil {
					errs = append(errs, err)
				}
			}
			if err := errors.Join(errs...); err != nil {
				return &exitError{auditIncomplete, fmt.Errorf("ledgers cannot be audited: %w", err)}
			}
			r := ledger.Audit(l[0], l[1])
			if asJSON {
				if err := printJSON(c.OutOrStdout(), r); err != nil {
					return err
				}
			} else if _, err := fmt.Fprint(c.OutOrStdout(), cleanLines(r.String())); err != nil {
				return err
			}
			switch r.Verdict {
			case ledger.Proven:
				return nil
			case ledger.Overlap:
				return &exitError{code: auditOverlap}
			}
			return &exitError{code: auditIncomplete}
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false,
		"print JSON: verdict, ledgers[], units[], findings[], missing[], warnings[]")
	return c
}

// cleanLines makes a text of several lines fit for a terminal.
func cleanLines(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = screen.Clean(lines[i])
	}
	return strings.Join(lines, "\n")
}
