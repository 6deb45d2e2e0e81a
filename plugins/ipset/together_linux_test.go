package main

import (
	"path/filepath"
	"strings"
	"testing"

	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// second makes one more application, with its work folder beside the first one's, as the core makes them.
func (f *fixture) second(group, name string, body map[string]any) *fixture {
	f.Helper()
	g := *f
	g.handle = nil
	g.app = &pluginv1.Application{Group: group, Name: name, WorkDir: filepath.Join(f.folder(), group, name)}
	g.configure(body)
	return &g
}

// folder is where the core makes work folders; the first application has its own there from now on.
func (f *fixture) folder() string {
	f.Helper()
	if strings.HasSuffix(f.app.GetWorkDir(), filepath.Join(f.app.GetGroup(), f.app.GetName())) {
		return filepath.Dir(filepath.Dir(f.app.GetWorkDir()))
	}
	dir := f.TempDir()
	f.app.WorkDir = filepath.Join(dir, f.app.GetGroup(), f.app.GetName())
	return dir
}

// TestAddressMovesToAnotherApplication: the configuration gives an address of one application to another one, while it
// is here. The first one's stop leaves it.
func TestAddressMovesToAnotherApplication(t *testing.T) {
	const stays, moves = "172.25.36.47/24", "172.25.36.44/24"
	moved := []string{"172.25.36.44/24 eth0:ors", "172.25.36.46/24 eth0", "172.25.36.48/24 eth0"}
	for name, take := range map[string]func(*fixture){
		"started": func(b *fixture) { b.mustStart() },
		"found after a restart": func(b *fixture) {
			b.recover(pluginv1.RunState_RUN_STATE_RUNNING)
			if _, err := b.renew(1, 0); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := protect(t, map[string]any{"addresses": []string{stays, moves}})
			b := a.second("apollo", "second", map[string]any{"address": moves})
			a.mustStart()
			a.configure(map[string]any{"address": stays})
			take(b)
			a.stop()
			a.wantAddresses(moved...)
			a.pinger().await(t, "172.25.36.44")
			b.stop()
			a.wantAddresses("172.25.36.46/24 eth0", "172.25.36.48/24 eth0")
		})
		t.Run(name+", and back", func(t *testing.T) {
			a := protect(t, map[string]any{"address": moves})
			b := a.second("apollo", "second", map[string]any{"address": moves})
			a.mustStart()
			a.configure(map[string]any{"address": stays})
			take(b)
			a.mustStart()
			b.configure(map[string]any{"address": "172.25.36.43/24"})
			a.configure(map[string]any{"address": moves})
			take(a)
			b.stop()
			a.health(pluginv1.Health_HEALTH_OK)
			a.stop()
			a.wantAddresses("172.25.36.46/24 eth0", "172.25.36.48/24 eth0")
		})
	}
}

// TestFormerAddressOfBoth: two applications have had it, one after the other, and neither has it now. It goes.
func TestFormerAddressOfBoth(t *testing.T) {
	const moves = "172.25.36.44/24"
	a := protect(t, map[string]any{"address": moves})
	b := a.second("apollo", "second", map[string]any{"address": moves})
	a.mustStart()
	a.configure(map[string]any{"address": "172.25.36.47/24"})
	b.mustStart()
	b.configure(map[string]any{"address": "172.25.36.43/24"})
	a.stop()
	b.stop()
	a.wantAddresses("172.25.36.46/24 eth0", "172.25.36.48/24 eth0")
}
