package pluginhost

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/orscore/ors/core/config"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// The plugins that ORS brings along run in this host, and accept the configuration at the root of the repository.
func TestOwnPlugins(t *testing.T) {
	h := newRig(t, defaultLimits, nil)
	for _, kind := range []string{"generic", "ipset"} {
		build := exec.Command("go", "build", "-o", h.program(kind), "../../plugins/"+kind)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build plugin %s: %v\n%s", kind, err, out)
		}
	}
	c := repositoryConfig(t)
	ctx := background(t)
	h.Start(ctx, c.Kinds())
	for g := range c.Groups {
		group := &c.Groups[g]
		for a := range group.Applications {
			app := &group.Applications[a]
			schema, err := h.Schema(app.Kind)
			if err != nil {
				t.Fatal(err)
			}
			raw, diags := c.DecodeApplication(app, schema, c.ExpectedDrives(group))
			r, err := h.Validate(ctx, app.Kind, &pluginv1.ValidateRequest{Application: &pluginv1.Application{
				Group: group.Name, Name: app.Name, Config: raw, WorkDir: t.TempDir(),
			}})
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range r.GetProblems() {
				diags = append(diags, c.Finding(app, schema, p))
			}
			var b strings.Builder
			c.WriteDiagnostics(&b, diags, false)
			if b.Len() > 0 {
				t.Errorf("group %s, application %s:\n%s", group.Name, app.Name, b.String())
			}
		}
	}
	for _, s := range h.Status() {
		if s.State != StateRunning || s.Launches != 1 {
			t.Errorf("status %+v", s)
		}
	}
}

func repositoryConfig(t *testing.T) *config.Config {
	t.Helper()
	raw, err := os.ReadFile("../../config.hcl")
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "key")
	if err := config.KeyGenerate(key); err != nil {
		t.Fatal(err)
	}
	src := strings.ReplaceAll(string(raw), `"/etc/ors/interconnect.key"`, fmt.Sprintf("%q", key))
	c, diags := config.Parse("config.hcl", []byte(src), config.Options{Server: "rocky"})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return c
}
