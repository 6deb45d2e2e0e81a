package core

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/interconnect/cabletest"
	"github.com/orscore/ors/core/interconnect/serial"
)

// CableOptions say which cable is tested, and for how long.
type CableOptions struct {
	Link    string // name of a serial link of the configuration; "": its only one, unless Device is given
	Device  string // a port instead
	Baud    int    // its speed
	Wait    time.Duration
	Measure time.Duration
}

// CableReport is what one end of a cable has found.
type CableReport struct {
	Device string `json:"device"`
	Baud   int    `json:"baud"`
	*cabletest.Report
}

// CableTest tests the cable at one end; the other end is tested at the same time. The agent may not hold the port.
func (o Options) CableTest(ctx context.Context, cable CableOptions) (*CableReport, error) {
	if cable.Device == "" {
		c, err := o.load()
		if err != nil {
			return nil, err
		}
		if err := cable.pick(c); err != nil {
			return nil, err
		}
	}
	p, err := serial.Open(cable.Device, cable.Baud)
	if err != nil {
		return nil, fmt.Errorf("ORS-7030: %s: %w", cable.Device, err)
	}
	defer p.Close()
	r, err := cabletest.Run(ctx, p, cabletest.Options{Baud: cable.Baud, Wait: cable.Wait, Measure: cable.Measure})
	if err != nil {
		return nil, fmt.Errorf("ORS-7030: %s: %w", cable.Device, err)
	}
	return &CableReport{cable.Device, cable.Baud, r}, nil
}

// pick finds the link's port of this server in the configuration.
func (o *CableOptions) pick(c *config.Config) error {
	var names []string
	for _, l := range c.Interconnect.Serial {
		if o.Link == l.Name || o.Link == "" && len(c.Interconnect.Serial) == 1 {
			o.Device, o.Baud = l.Device[c.Self-1], l.Baud
			return nil
		}
		names = append(names, l.Name)
	}
	if len(names) == 0 {
		return fmt.Errorf("ORS-7031: the configuration has no serial link: name a port with --device")
	}
	return fmt.Errorf("ORS-7031: %q is no serial link of the configuration; they are: %s", o.Link,
		strings.Join(names, ", "))
}
