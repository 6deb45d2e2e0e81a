package loop

import (
	"time"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/failover"
)

// ParamsFor turns a configuration into the parameters of the decision.
func ParamsFor(c *config.Config) failover.Params {
	ticks := func(d time.Duration) failover.Tick { return failover.Tick(d / time.Millisecond) }
	p := failover.Defaults(ticks(c.Interconnect.Timeout))
	p.Self, p.Survivor = c.Self, c.Arbitration.Survivor
	p.StartupTimeout = ticks(c.Interconnect.StartupTimeout)
	p.ArbitrationDelay = ticks(c.Arbitration.Delay)
	for _, u := range c.Units() {
		p.Units = append(p.Units, failover.UnitParams{Group: u.Group})
	}
	for gi := range c.Groups {
		g := &c.Groups[gi]
		gp := failover.GroupParams{
			Primary: g.Primary, RestartLimit: g.RestartLimit, RestartReset: ticks(g.RestartReset),
			Failback: g.Failback, FailbackDelay: ticks(g.FailbackDelay), FlapLimit: g.FlapLimit, FlapWindow: ticks(g.FlapWindow),
			AttachTimeout: 5_000, StartTimeout: 5_000, StopTimeout: 5_000,
		}
		for _, u := range c.Units() {
			if u.Group == gi {
				gp.Units = append(gp.Units, u.Index)
			}
		}
		for _, s := range g.Storage {
			for _, d := range s.Drives {
				gp.AttachTimeout += ticks(d.MountTimeout)
			}
		}
		for _, a := range g.Applications { // in the worst case one after the other
			gp.StartTimeout += ticks(a.StartTimeout)
			gp.StopTimeout += ticks(a.StopTimeout)
		}
		p.Groups = append(p.Groups, gp)
	}
	return p
}
