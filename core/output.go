package core

import (
	"fmt"
	"path/filepath"
	"slices"
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

// OutputParts are files beside an application's output file, which is path: NAME.PART.log where each of its programs
// has one of its own, as those of several Domino servers. None where the configuration names the file.
func OutputParts(c *config.Config, path string) []string {
	var all []string // of all applications: a name may have dots
	for i := range c.Groups {
		for j := range c.Groups[i].Applications {
			all = append(all, node.LogFile(c.Agent.LogDir, c.Groups[i].Name, c.Groups[i].Applications[j].Name))
		}
	}
	if !slices.Contains(all, path) {
		return nil
	}
	ext := filepath.Ext(path)
	found, err := filepath.Glob(strings.TrimSuffix(path, ext) + ".*" + ext)
	if err != nil {
		return nil // log_dir has a letter that means something to Glob
	}
	return slices.DeleteFunc(found, func(f string) bool { return slices.Contains(all, f) })
}
