package pluginhost

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// What a program has said of itself is kept under its hash: the same program would say the same again. It serves to
// read configurations without running plugins, and to compare versions; a program that serves is asked anew each time
// it is started.

// mostKnown is how many programs are remembered; the ones asked longest ago are forgotten first.
const mostKnown = 64

const knownSuffix = ".json"

// description is what a plugin says of itself.
type description struct {
	protocol int // version of the plugin protocol
	info     *pluginv1.InfoResponse
	schema   *pluginv1.Block
}

// known is a description as a file.
type known struct {
	Protocol int             `json:"protocol"`
	Info     json.RawMessage `json:"info"`
	Schema   json.RawMessage `json:"schema"`
}

// recall returns what a program with this hash has said of itself; nil when that is not known, or when it is of another
// kind than its name says: the launch refuses it then.
func (h *Host) recall(kind, sum string) *description {
	if h.o.KnownDir == "" {
		return nil
	}
	raw, err := os.ReadFile(filepath.Join(h.o.KnownDir, sum+knownSuffix))
	if err != nil {
		return nil
	}
	var k known
	d := &description{info: &pluginv1.InfoResponse{}, schema: &pluginv1.Block{}}
	read := protojson.UnmarshalOptions{DiscardUnknown: true}
	if json.Unmarshal(raw, &k) != nil || read.Unmarshal(k.Info, d.info) != nil ||
		read.Unmarshal(k.Schema, d.schema) != nil || d.info.GetKind() != kind {
		return nil // damaged, or written by another version of ORS: it is asked again
	}
	d.protocol = k.Protocol
	return d
}

// remember keeps what a program has said of itself. Nothing depends on it: what cannot be kept is asked again.
func (h *Host) remember(sum string, d *description) {
	if h.o.KnownDir == "" {
		return
	}
	info, infoErr := protojson.Marshal(d.info)
	schema, schemaErr := protojson.Marshal(d.schema)
	if infoErr != nil || schemaErr != nil {
		return
	}
	raw, err := json.Marshal(known{Protocol: d.protocol, Info: info, Schema: schema})
	if err == nil {
		err = h.writeKnown(sum+knownSuffix, raw)
	}
	if err != nil {
		h.o.Log.Debug("what a plugin says of itself cannot be kept", "folder", h.o.KnownDir, "error", err)
	}
}

func (h *Host) writeKnown(name string, raw []byte) error {
	if err := os.MkdirAll(h.o.KnownDir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(h.o.KnownDir, ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if chmod := f.Chmod(0o644); err == nil {
		err = chmod
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(h.o.KnownDir, name))
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	h.forgetSome()
	return nil
}

// That an upgrade has refused a program is kept, too: it must not serve after the next crash, or the next start of the
// agent, because it is the newest.

const refusedSuffix = ".refused"

// refuse notes why a program does not serve. why "" forgives it.
func (h *Host) refuse(sum, why string) {
	h.mu.Lock()
	if why == "" {
		delete(h.refused, sum)
	} else {
		h.refused[sum] = why
	}
	h.mu.Unlock()
	if h.o.KnownDir == "" {
		return
	}
	var err error
	if path := sum + refusedSuffix; why != "" {
		err = h.writeKnown(path, []byte(why))
	} else if err = os.Remove(filepath.Join(h.o.KnownDir, path)); errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err != nil {
		h.o.Log.Warn("whether a program was refused cannot be kept", "folder", h.o.KnownDir, "error", err)
	}
}

// forgive lets all programs of a kind be chosen again.
func (h *Host) forgive(kind string) {
	paths, missing := h.files(kind)
	if missing != nil {
		return
	}
	for _, path := range paths {
		if c, err := look(kind, path); err == nil {
			h.refuse(c.sum, "")
		}
	}
}

// refusalOf is why a program was refused when it was to take the place of another one; empty: it was not.
func (h *Host) refusalOf(sum string) string {
	h.mu.Lock()
	why := h.refused[sum]
	h.mu.Unlock()
	if why == "" && h.o.KnownDir != "" {
		if raw, err := os.ReadFile(filepath.Join(h.o.KnownDir, sum+refusedSuffix)); err == nil {
			why = strings.TrimSpace(string(raw)) + " " // also of an empty file
		}
	}
	return why
}

// forgetSome removes the oldest descriptions when there are too many.
func (h *Host) forgetSome() {
	entries, err := os.ReadDir(h.o.KnownDir)
	if err != nil {
		return
	}
	var files []os.FileInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasSuffix(e.Name(), knownSuffix) ||
			err == nil && strings.HasSuffix(e.Name(), refusedSuffix) {
			files = append(files, info)
		}
	}
	slices.SortFunc(files, func(a, b os.FileInfo) int {
		return cmp.Or(b.ModTime().Compare(a.ModTime()), strings.Compare(a.Name(), b.Name()))
	})
	for _, f := range files[min(len(files), mostKnown):] {
		_ = os.Remove(filepath.Join(h.o.KnownDir, f.Name()))
	}
}

// describe runs a program for as long as it takes to ask what it is.
func (h *Host) describe(ctx context.Context, kind string, c *candidate) (*description, *Error) {
	in := h.newInstance(kind, "")
	p, err := in.launch(ctx, c, true)
	if ctx.Err() == nil {
		h.answered(c.sum, err == nil)
	}
	if err != nil {
		return nil, err
	}
	p.end(h.lim.stop, h.lim.dead)
	return p.description, nil
}

// Program is one program of the plugin folder.
type Program struct {
	Kind     string
	Path     string
	Version  string // as its name or the program says; empty: not known
	Protocol int    // version of the plugin protocol; 0: not known
	SHA256   string
	Pinned   bool   // the configuration pins this hash
	Chosen   bool   // it is the one that serves its kind when it is started next
	Problem  string // why it is not run, or could not say what it is; empty: nothing is known against it
}

// Programs lists the programs of the plugin folder, by kind. Those that are not known yet are run to learn what they
// are.
func (h *Host) Programs(ctx context.Context) ([]Program, error) {
	kinds, err := h.Kinds()
	if err != nil {
		return nil, err
	}
	var all []Program
	for _, kind := range kinds {
		paths, failed := h.files(kind)
		if failed != nil {
			continue // removed meanwhile
		}
		chosen, _ := h.choose(ctx, kind)
		for _, path := range paths {
			all = append(all, h.programAt(ctx, kind, path, chosen))
		}
	}
	return all, nil
}

func (h *Host) programAt(ctx context.Context, kind, path string, chosen *candidate) Program {
	p := Program{Kind: kind, Path: path}
	c, err := look(kind, path)
	if err != nil {
		p.Problem = err.Error()
		return p
	}
	pin := h.o.Pins[kind]
	p.SHA256, p.Chosen, p.Pinned = c.sum, c.same(chosen), pin.SHA256 != "" && strings.EqualFold(pin.SHA256, c.sum)
	if c.claimed != nil {
		p.Version = c.claimed.String()
	}
	if err := pin.pinned(kind, c); err != nil { // it is not run, not even to ask
		p.Problem = err.Error()
		return p
	}
	d := h.recall(kind, c.sum)
	if d == nil {
		d, err = h.describe(ctx, kind, c)
	}
	if err != nil {
		p.Problem, p.Chosen = err.Error(), false
		return p
	}
	p.Version, p.Protocol = d.info.GetVersion(), d.protocol
	if why := h.refusalOf(c.sum); why != "" && !p.Chosen {
		p.Problem = "an upgrade has refused it: " + strings.TrimSpace(why) + "; `orscore plugin upgrade " + kind +
			"` asks it again"
	}
	if chosen == nil {
		if _, err := h.choose(ctx, kind); err != nil {
			p.Problem = err.Error()
		}
	}
	return p
}

// Describe returns what the program that would serve a kind says of itself, running it only when its hash is not known.
func (h *Host) Describe(ctx context.Context, kind string) (*pluginv1.InfoResponse, *pluginv1.Block, error) {
	c, err := h.choose(ctx, kind)
	if err != nil {
		return nil, nil, err
	}
	d := h.recall(kind, c.sum)
	if d == nil {
		if d, err = h.describe(ctx, kind, c); err != nil {
			return nil, nil, err
		}
	}
	return d.info, d.schema, nil
}

// Known returns what the program that would serve a kind has said of itself, if its hash is known, and runs nothing.
// Where several programs are there, all have to be known: another one might be the newest.
func (h *Host) Known(kind string) (*pluginv1.InfoResponse, *pluginv1.Block, bool) {
	all := true
	c, err := h.chooseBy(kind, h.against, func(*candidate) (*description, *Error) {
		all = false
		return nil, &Error{Code: CodeVersion, Kind: kind, What: "its version is not known"}
	})
	if err != nil || !all {
		return nil, nil, false
	}
	d := h.recall(kind, c.sum)
	if d == nil {
		return nil, nil, false
	}
	return d.info, d.schema, true
}
