package ipset

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
)

// Order is what is asked of the program on its command line, as JSON on its standard input: one address, by hand, for
// no application. `orscore ipset` writes it.
type Order struct {
	Address  string `json:"address"`
	Bits     int    `json:"bits,omitempty"` // of the network; 0: as another address of the adapter has it
	Adapter  string `json:"adapter,omitempty"`
	Replaces string `json:"replaces,omitempty"`
	Gateway  string `json:"gateway,omitempty"`
	WorkDir  string `json:"work_dir"`
	Release  bool   `json:"release,omitempty"` // give it up, and put the dummy back
	DryRun   bool   `json:"dry_run,omitempty"` // say what would be done, and do nothing
}

// Command carries out an order and returns the exit code: 0 done, 1 failed, 2 not understood.
func Command(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	flags := flag.NewFlagSet("ors-plugin-ipset", flag.ContinueOnError)
	flags.SetOutput(errOut)
	order := flags.Bool("order", false, "carry out the order on standard input, for `orscore ipset`")
	if err := flags.Parse(args); err != nil || !*order || flags.NArg() > 0 {
		_, _ = fmt.Fprintln(errOut, "This program is a plugin of ORS. To set an address by hand, use orscore ipset.")
		return 2
	}
	var o Order
	dec := json.NewDecoder(in)
	dec.DisallowUnknownFields()
	err := dec.Decode(&o)
	if err == nil && o.WorkDir == "" {
		err = errors.New("an order needs a work_dir")
	}
	if err != nil {
		_, _ = fmt.Fprintln(errOut, err)
		return 2
	}
	say := func(text string) { _, _ = fmt.Fprintln(out, text) }
	if err := carryOut(ctx, o, say); err != nil {
		_, _ = fmt.Fprintln(errOut, err)
		return 1
	}
	return 0
}
