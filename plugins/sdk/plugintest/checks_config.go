package plugintest

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

func (k *kit) validate(name string, a *pluginv1.Application) ([]*pluginv1.Problem, error) {
	r, err := call(k, "Validate", shortCall, k.plugin.service.Validate, &pluginv1.ValidateRequest{
		Application: a, All: []*pluginv1.Application{a},
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r.GetProblems(), checkProblems("Validate", k.schema, r.GetProblems())
}

// validateBad sends what the core would never send, and what a schema cannot keep out.
func (k *kit) validateBad() (string, error) {
	if k.schema == nil {
		if _, err := k.schemaHolds(); err != nil {
			return "", err
		}
	}
	bad := []struct{ name, config string }{
		{"nothing at all", ""},
		{"no JSON", `{"`},
		{"a list", `[1, 2, 3]`},
		{"bytes that are no text", "\xff\xfe\x00{}"},
	}
	for _, c := range bad {
		a := k.app()
		a.pb.Config = []byte(c.config)
		found, err := k.validate(c.name, a.pb)
		if err != nil {
			return "", err
		}
		if firstError(found) == nil {
			return "", fmt.Errorf("a configuration that is %s (%q) was accepted", c.name, c.config)
		}
	}
	if k.config == nil && k.why == "" {
		k.configure()
	}
	wrong, err := k.validateWrong()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("Refused: %d; answered beside: %d.", len(bad), wrong), nil
}

// validateWrong sends the good configuration with one value after the other taken away. What is right is the plugin's
// to say; it has to say it in order.
func (k *kit) validateWrong() (int, error) {
	if k.config == nil {
		return 0, nil
	}
	var whole map[string]any
	if err := json.Unmarshal(k.config, &whole); err != nil {
		return 0, fmt.Errorf("the configuration is no JSON object: %w", err)
	}
	n := 0
	for _, attr := range k.schema.GetAttributes() {
		for _, v := range []any{"", "-1", "../..", -1, []string{}, nil} {
			changed := map[string]any{}
			for name, value := range whole {
				changed[name] = value
			}
			changed[attr.GetName()] = v
			raw, err := json.Marshal(changed)
			if err != nil {
				return 0, err
			}
			a := k.app()
			a.pb.Config = raw
			if _, err := k.validate(fmt.Sprintf("%s = %v", attr.GetName(), v), a.pb); err != nil {
				return 0, err
			}
			n++
		}
	}
	return n, nil
}

func (k *kit) validateGood() (string, error) {
	found, err := k.validate("the given configuration", k.app().pb)
	if err != nil {
		return "", err
	}
	if p := firstError(found); p != nil {
		return "", fmt.Errorf("the given configuration was refused: %s %s", p.GetSummary(), p.GetDetail())
	}
	return fmt.Sprintf("Warnings: %d.", len(found)), nil
}

func (a *app) ready() ([]*pluginv1.Problem, error) {
	r, err := call(a.kit, "Ready", readyCall, a.plugin.service.Ready, &pluginv1.ReadyRequest{
		Caller: a.caller(), Application: a.pb,
	})
	if err != nil {
		return nil, err
	}
	return r.GetProblems(), checkProblems("Ready", a.schema, r.GetProblems())
}

func (k *kit) readySays() (string, error) {
	if k.schema == nil {
		k.configure()
	}
	a := k.app()
	found, err := a.ready()
	if err != nil {
		return "", err
	}
	if p := firstError(found); p != nil {
		return "", fmt.Errorf("it is not ready, though the given configuration is said to work here: %s %s",
			p.GetSummary(), p.GetDetail())
	}
	return fmt.Sprintf("Ready; warnings: %d.", len(found)), nil
}

// readyStandby asks as the core does of a server that does not have the storage: each path is where the drive will be.
func (k *kit) readyStandby() (string, error) {
	a := k.app()
	for _, d := range a.pb.GetDrives() {
		away := d.GetPath() + ".away"
		if err := os.Rename(d.GetPath(), away); err != nil {
			return "", skipped("The drive cannot be taken away.")
		}
		defer func() { _ = os.Rename(away, d.GetPath()) }()
	}
	found, err := a.ready()
	if err != nil {
		return "", err
	}
	if p := firstError(found); p != nil {
		return "", fmt.Errorf("without the drives, which are at the partner, it is not ready: %s %s", p.GetSummary(),
			p.GetDetail())
	}
	return "Ready without the drives.", nil
}

// noChange asks all that must change nothing about an application that was never started.
func (k *kit) noChange() (string, error) {
	a := k.app()
	before, err := tree(k.dir)
	if err != nil {
		return "", err
	}
	if _, err := k.validate("the given configuration", a.pb); err != nil {
		return "", err
	}
	if _, err := a.ready(); err != nil {
		return "", err
	}
	if _, err := a.recover(); err != nil {
		return "", err
	}
	if _, err := a.probe(); err != nil {
		return "", err
	}
	after, err := tree(k.dir)
	if err != nil {
		return "", err
	}
	for path, sum := range after {
		if before[path] != sum {
			return "", fmt.Errorf("one of Validate, Ready, Recover and Probe has written %s", path)
		}
	}
	if err := a.noProcess(calm); err != nil {
		return "", fmt.Errorf("one of Validate, Ready, Recover and Probe has left a process: %w", err)
	}
	return "No file, no process.", nil
}

// tree sums up the files that an application has been shown: work folders and drives.
func tree(dir string) (map[string]string, error) {
	out := map[string]string{}
	for _, top := range []string{"work", "E"} {
		err := filepath.WalkDir(filepath.Join(dir, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				if os.IsNotExist(err) {
					return nil
				}
				return err
			}
			name := strings.TrimPrefix(path, dir)
			out[name] = "folder"
			if d.Type().IsRegular() {
				b, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				out[name] = fmt.Sprintf("%x", sha256.Sum256(b))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// deadlines asks each call once about an application that does not run: nothing holds it up.
func (k *kit) deadlines() (string, error) {
	a := k.app()
	begin := time.Now()
	if err := a.workDir(); err != nil {
		return "", err
	}
	_, e1 := call(k, "Info", shortCall, k.plugin.service.Info, &pluginv1.InfoRequest{})
	_, e2 := call(k, "Schema", shortCall, k.plugin.service.Schema, &pluginv1.SchemaRequest{})
	_, e3 := k.validate("the given configuration", a.pb)
	_, e4 := a.ready()
	_, e5 := a.recover()
	_, e6 := a.probe()
	if i := slices.IndexFunc([]error{e1, e2, e3, e4, e5, e6}, func(err error) bool { return err != nil }); i >= 0 {
		return "", []error{e1, e2, e3, e4, e5, e6}[i]
	}
	return fmt.Sprintf("Six calls in %v.", time.Since(begin).Round(time.Millisecond)), nil
}
