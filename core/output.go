package core

import (
	"fmt"
	"strings"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/node"
)

// OutputFile is the file on this server that holds the output of an application, "NAME" or "GROUP/NAME". Drives are
// taken to have their own letters.
func OutputFile(c *config.Config, name string) (string, error) {
	var found, names []string
	for i := range c.Groups {
		g := &c.Groups[i]
		for j := range g.Applications {
			app := &g.Applications[j]
			full := g.Name + "/" + app.Name
			names = append(names, full)
			if name != app.Name && name != full {
				continue
			}
			path, err := c.TextIn(app, "log_file", c.ExpectedDrives(g))
			if err != nil {
				return "", fmt.Errorf("ORS-7043: log_file of %s: %w", full, err)
			}
			if path == "" {
				path = node.LogFile(c.Agent.LogDir, g.Name, app.Name)
			}
			found = append(found, path)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return "", fmt.Errorf("ORS-7043: %q is in several groups, say which: %s", name, strings.Join(names, ", "))
	}
	return "", fmt.Errorf("ORS-7043: there is no application %q, only %s", name, strings.Join(names, ", "))
}
