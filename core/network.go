package core

import (
	"context"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/netcheck"
)

// networkTargets are the configuration's targets of the network check, in which it has found no mistake.
func networkTargets(c *config.Config) []netcheck.Target {
	var targets []netcheck.Target
	for _, s := range c.NetworkCheck.Targets {
		if t, err := netcheck.Parse(s); err == nil {
			targets = append(targets, t)
		}
	}
	return targets
}

// networkCheck asks all targets of the network check at once whether any of them answers.
func networkCheck(c *config.Config) func(context.Context) failover.Answer {
	targets := networkTargets(c)
	if len(targets) == 0 {
		return nil
	}
	return func(ctx context.Context) failover.Answer {
		ctx, cancel := context.WithTimeout(ctx, c.NetworkCheck.Timeout)
		defer cancel()
		if netcheck.Any(ctx, targets) {
			return failover.Yes
		}
		return failover.No
	}
}

// TestNetwork asks each target of the configuration's network check, as the agent does to find out whether its server
// is cut off. The check is successful when one answers. There are no results when the configuration has no targets.
func TestNetwork(ctx context.Context, o Options) ([]netcheck.Result, bool, error) {
	c, err := o.load()
	if err != nil {
		return nil, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.NetworkCheck.Timeout)
	defer cancel()
	results := netcheck.Ask(ctx, networkTargets(c))
	for _, r := range results {
		if r.Answers {
			return results, true, nil
		}
	}
	return results, false, nil
}
