package pluginhost

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/go-version"

	"github.com/orscore/ors/internal/safefile"
	"github.com/orscore/ors/plugins/sdk/handshake"
)

// The plugin folder holds programs called ors-plugin-KIND and ors-plugin-KIND_VERSION, any number of a kind side by
// side. Of those that are as pinned and fit the version constraint, the newest serves. A version in a name is what the
// program must say of itself; the version of one without is what it says.

// candidate is a program that may serve a kind.
type candidate struct {
	path    string
	claimed *version.Version // by its name; nil: none
	version *version.Version // claimed, or as the program has said; nil: not known yet
	file    fs.FileInfo
	sum     string
}

// same says whether two candidates are one program, as far as can be seen without running it.
func (c *candidate) same(other *candidate) bool {
	return other != nil && c.path == other.path && c.sum == other.sum && unchanged(c.file, other.file)
}

// unchanged says whether two looks at a path have seen the same file with the same content, as far as can be seen
// without reading it.
func unchanged(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// stillThere says whether the path still leads to the program that was looked at.
func (c *candidate) stillThere() bool {
	now, err := os.Stat(c.path)
	return err == nil && unchanged(c.file, now)
}

// program is the path of a kind's program that has no version in its name.
func (h *Host) program(kind string) string {
	return filepath.Join(h.o.Dir, handshake.ProgramPrefix+kind+programSuffix)
}

// splitName takes the name of a program file apart; claimed is nil when it has no version.
func splitName(name string) (kind string, claimed *version.Version, ok bool) {
	name, ok = strings.CutSuffix(name, programSuffix)
	if !ok || strings.HasSuffix(name, safefile.Old) {
		return "", nil, false
	}
	kind, text, ok := handshake.SplitProgram(name)
	if ok && text != "" {
		var err error
		if claimed, err = version.NewSemver(text); err != nil {
			return "", nil, false // such as a download that is under way
		}
	}
	return kind, claimed, ok
}

// Kinds lists the kinds that have a program in the plugin folder.
func (h *Host) Kinds() ([]string, error) {
	entries, err := os.ReadDir(h.o.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var kinds []string
	for _, e := range entries {
		if kind, _, ok := splitName(e.Name()); ok && !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	return kinds, nil
}

// files lists the paths of a kind's programs.
func (h *Host) files(kind string) ([]string, *Error) {
	entries, err := os.ReadDir(h.o.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{Code: CodeMissing, Kind: kind, What: "the plugin folder cannot be read",
			Next: "check the folder " + h.o.Dir, Err: err}
	}
	var paths []string
	for _, e := range entries {
		if k, _, ok := splitName(e.Name()); ok && k == kind {
			paths = append(paths, filepath.Join(h.o.Dir, e.Name()))
		}
	}
	if len(paths) == 0 {
		return nil, &Error{Code: CodeMissing, Kind: kind, What: "there is no program " + h.program(kind),
			Next: "install it there, or set plugin_dir in the agent block"}
	}
	return paths, nil
}

// look looks at a program file: present, and safe from others.
func look(kind, path string) (*candidate, *Error) {
	refuse := func(code, what, next string, err error) (*candidate, *Error) {
		return nil, &Error{Code: code, Kind: kind, What: what, Next: next, Err: err}
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return refuse(CodeMissing, "the program cannot be looked at", "check the folder "+filepath.Dir(path), err)
	case !info.Mode().IsRegular():
		return refuse(CodeMissing, path+" is no program", "install the plugin there", nil)
	}
	if err := safefile.Check(path); err != nil {
		return refuse(CodeMode, "it is not run because others could replace it", "take the right to write from them", err)
	}
	sum, err := fileSum(path)
	if err != nil {
		return refuse(CodeMissing, "the program cannot be read", "check its file mode", err)
	}
	_, claimed, _ := splitName(filepath.Base(path))
	return &candidate{path: path, claimed: claimed, version: claimed, file: info, sum: sum}, nil
}

func fileSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// pinned says whether a program is the one whose hash is pinned, if one is.
func (p Pin) pinned(kind string, c *candidate) *Error {
	if want := strings.ToLower(p.SHA256); want != "" && want != c.sum {
		return &Error{Code: CodeHash, Kind: kind,
			What: fmt.Sprintf("the program %s has the SHA-256 %s, and the configuration pins %s", c.path, c.sum, want),
			Next: "install the program that was pinned, or pin this one after you have made sure of it"}
	}
	return nil
}

// fits says whether a version is one that the configuration wants.
func (p Pin) fits(kind string, v *version.Version) *Error {
	if p.Version == "" {
		return nil
	}
	constraint, err := version.NewConstraint(p.Version)
	if err != nil {
		return &Error{Code: CodeVersion, Kind: kind, What: fmt.Sprintf("%q is no version constraint", p.Version),
			Next: "correct the configuration", Err: err}
	}
	if !constraint.Check(v) {
		return &Error{Code: CodeVersion, Kind: kind,
			What: fmt.Sprintf("its version is %s, and the configuration wants %q", v, p.Version),
			Next: "install a version that fits, or change the constraint"}
	}
	return nil
}

// choose finds the program that is to serve a kind: of those that are safe from others, as pinned, and fit the
// constraint, the newest. Where there are several, those whose hash is not known are run to learn their version.
func (h *Host) choose(ctx context.Context, kind string) (*candidate, *Error) {
	return h.chooseBy(kind, h.against, func(c *candidate) (*description, *Error) { return h.describe(ctx, kind, c) })
}

// chooseAgain is choose for an operator's upgrade: a program that an upgrade has refused before is looked at again.
func (h *Host) chooseAgain(ctx context.Context, kind string) (*candidate, *Error) {
	return h.chooseBy(kind, h.failures, func(c *candidate) (*description, *Error) { return h.describe(ctx, kind, c) })
}

// chooseBy is choose with what speaks against a program, by its hash, and with what is to be done to learn about one
// whose hash is not known.
func (h *Host) chooseBy(kind string, against func(sum string) int,
	ask func(*candidate) (*description, *Error)) (*candidate, *Error) {
	paths, missing := h.files(kind)
	if missing != nil {
		return nil, missing
	}
	pin := h.o.Pins[kind]
	var good []*candidate
	var refused []*Error
	for _, path := range paths {
		c, err := look(kind, path)
		if err == nil {
			err = pin.pinned(kind, c)
		}
		if err == nil && c.claimed != nil {
			err = pin.fits(kind, c.claimed)
		}
		if err != nil {
			refused = append(refused, err)
			continue
		}
		good = append(good, c)
	}
	alone := len(good) == 1
	// One that could not say what it is when it was asked last is asked again only where no other one fits: it may take
	// all its time again, and applications wait. One that an upgrade has refused comes after these.
	slices.SortStableFunc(good, func(a, b *candidate) int { return cmp.Compare(against(a.sum), against(b.sum)) })
	var fit []*candidate
	for _, c := range good {
		if len(fit) > 0 && against(c.sum) > 0 {
			break
		}
		err := h.learnVersion(kind, c, alone, ask)
		if err == nil && c.version != nil {
			err = pin.fits(kind, c.version)
		}
		if err != nil {
			refused = append(refused, err)
			continue
		}
		fit = append(fit, c)
	}
	if len(fit) == 0 {
		return nil, noneOf(kind, refused)
	}
	return slices.MaxFunc(fit, older), nil
}

// failures is how often the program with this hash could not say what it is, since it did last.
func (h *Host) failures(sum string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failed[sum]
}

// against is what speaks against a program: how often it could not say what it is, and most of all that it was refused
// when it was to take the place of another one.
func (h *Host) against(sum string) int {
	if h.refusalOf(sum) != "" {
		return math.MaxInt
	}
	return h.failures(sum)
}

// answered notes whether a program could say what it is.
func (h *Host) answered(sum string, yes bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if yes {
		delete(h.failed, sum)
	} else {
		h.failed[sum]++
	}
}

// older orders programs by version; of two with the same one, the one that says it in its name is newer.
func older(a, b *candidate) int {
	if a.version == nil || b.version == nil {
		return 0 // it is the only one
	}
	if c := a.version.Compare(b.version); c != 0 {
		return c
	}
	return strings.Compare(a.path, b.path)
}

// learnVersion finds out which version a program is, whatever its name says: a file with a wrong name must not keep the
// others from serving. One that is alone will say so when it serves.
func (h *Host) learnVersion(kind string, c *candidate, alone bool, ask func(*candidate) (*description, *Error)) *Error {
	d := h.recall(kind, c.sum)
	if d == nil && alone {
		return nil
	}
	if d == nil {
		var err *Error
		if d, err = ask(c); err != nil {
			return err
		}
	}
	v, err := version.NewSemver(d.info.GetVersion())
	if err != nil && alone {
		return nil // the launch refuses it where that matters
	}
	if err != nil {
		return &Error{Code: CodeVersion, Kind: kind,
			What: fmt.Sprintf("the version %q of %s is none", d.info.GetVersion(), c.path),
			Next: "install a version of it that works"}
	}
	if c.claimed != nil && !c.claimed.Equal(v) {
		return otherVersion(kind, c.path, v)
	}
	c.version = v
	return nil
}

// otherVersion refuses a program that is not the version that its name says.
func otherVersion(kind, path string, got *version.Version) *Error {
	return &Error{Code: CodeVersion, Kind: kind, What: fmt.Sprintf("%s says that it is version %s", path, got),
		Next: "name the file after its version: " + handshake.ProgramPrefix + kind + "_" + got.String() + programSuffix}
}

// noneOf is the reason why none of a kind's programs may run; of several the first with the code of the first.
func noneOf(kind string, refused []*Error) *Error {
	if len(refused) == 1 {
		return refused[0]
	}
	e := *refused[0]
	e.Kind = kind
	var others []string
	for _, r := range refused[1:] {
		others = append(others, r.What)
	}
	e.What += fmt.Sprintf("; nor does another one of its %d programs fit: %s", len(refused), strings.Join(others, "; "))
	return &e
}
