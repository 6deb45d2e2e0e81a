package drive

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// defaultTimeout bounds calls whose context and Spec do not.
const defaultTimeout = 30 * time.Second

// directoryFilesystem is the Spec.Filesystem of a volume that is a folder already.
const directoryFilesystem = "directory"

// Drives are the drives of this server. Its methods may be called from several goroutines; two calls for one drive at
// the same time are the caller's mistake.
type Drives struct {
	root    string
	log     hclog.Logger
	placing chan struct{} // one token: who holds it assigns letters

	mu       sync.Mutex
	reserved []string
	platform
}

// New returns the drives whose letters are folders below root; on Windows letters are the system's, and root is not
// used. Close it.
func New(root string, log hclog.Logger) *Drives {
	if log == nil {
		log = hclog.NewNullLogger()
	}
	d := &Drives{root: filepath.Clean(root), log: log, placing: make(chan struct{}, 1)}
	d.placing <- struct{}{}
	return d
}

// Reserve names the letters that configured drives have on this server: none of them is given to another drive as the
// next free one, even while it is not in use.
func (d *Drives) Reserve(letters ...string) error {
	for _, s := range letters {
		l, err := letter(s)
		if err != nil {
			return &Error{Code: CodeSpec, Text: err.Error()}
		}
		d.mu.Lock()
		if !slices.Contains(d.reserved, l) {
			d.reserved = append(d.reserved, l)
		}
		d.mu.Unlock()
	}
	return nil
}

// LetterPath returns the folder of a letter such as "E:", whether it is assigned or not. On Linux it is below the
// drive root.
func (d *Drives) LetterPath(l string) string { return letterPath(d.root, l) }

// normal checks a Spec and fills in its defaults.
func (s Spec) normal() (Spec, error) {
	l, err := letter(s.Letter)
	if err != nil {
		return s, &Error{Code: CodeSpec, Text: err.Error()}
	}
	s.Letter = l
	if s.Volume == "" || s.Filesystem == "" {
		return s, &Error{Code: CodeSpec, Text: fmt.Sprintf("drive %s has no volume or no filesystem", l),
			Next: `right would be volume = "LABEL=data" and filesystem = "ext4"`}
	}
	if s.Filesystem == directoryFilesystem && !filepath.IsAbs(s.Volume) {
		return s, &Error{Code: CodeSpec, Text: fmt.Sprintf("drive %s: volume %q must be an absolute path", l, s.Volume)}
	}
	switch s.Fsck {
	case "":
		s.Fsck = "auto"
	case "auto", "always", "never":
	default:
		return s, &Error{Code: CodeSpec, Text: fmt.Sprintf("drive %s: fsck %q is not auto, always or never", l, s.Fsck)}
	}
	if s.MountTimeout <= 0 {
		s.MountTimeout = defaultTimeout
	}
	return s, nil
}

// mapOf is what the map file of a drive says.
func mapOf(s Spec) Map { return Map{Letter: s.Letter, Server: s.Server, Volume: s.Volume} }

// bounded gives ctx the default deadline when it has none.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, defaultTimeout)
}

// lockLetters takes the token for assigning letters; call the result to give it back.
func (d *Drives) lockLetters(ctx context.Context) (func(), error) {
	select {
	case <-d.placing:
		return func() { d.placing <- struct{}{} }, nil
	case <-ctx.Done():
		return nil, &Error{Code: CodeTimeout, Text: "another drive is being given its letter", Err: ctx.Err()}
	}
}

// wanted returns the letter that a volume should have: the configured one on its primary, else that of its map file.
func wanted(s Spec, m Map, err error) (string, *Error) {
	if s.OnPrimary || err == nil && m.Letter == "" {
		return s.Letter, nil
	}
	var e *Error
	switch {
	case err == nil:
		return m.Letter, nil
	case errors.As(err, &e):
		return s.Letter, e
	}
	return s.Letter, nil // there is no map file yet
}

// moved is the problem of a drive that did not get the letter it should have.
func moved(want, got string) *Error {
	return &Error{Code: CodeMoved, Text: fmt.Sprintf("letter %s is in use on this server, so the drive is %s here", want,
		got),
		Next: "applications see it as d1 … dn; free the letter and switch again to get it back"}
}
