//go:build linux

package pair

import "path/filepath"

// StateDir is a server's state directory as whoever plays the pair sees it, whether the server has power or not.
func (p *Pair) StateDir(server string) string { return filepath.Join(p.hostDir(server), "state") }
