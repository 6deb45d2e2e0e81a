package ipset

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
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

	Applications []configured `json:"applications,omitempty"` // of the configuration, whose addresses are not for hands
}

// configured is an application of the configuration.
type configured struct {
	Group  string          `json:"group"`
	Name   string          `json:"name"`
	Config json.RawMessage `json:"config"`
}

// taken says of which application an address is; nil: of none.
func (o Order) taken(addr netip.Addr) error {
	for _, c := range o.Applications {
		var cfg config
		if err := json.Unmarshal(c.Config, &cfg); err != nil {
			return fmt.Errorf("configuration of application %s of group %s: %w", c.Name, c.Group, err)
		}
		s, _ := cfg.check()
		for _, p := range s.addresses {
			if p.Addr() == addr {
				return fmt.Errorf("%s is the address of application %q of group %q: it comes and goes with its group", addr,
					c.Name, c.Group)
			}
		}
	}
	return nil
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
