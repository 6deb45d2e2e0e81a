package domino

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/orscore/ors/plugins/domino/internal/notesini"
	"github.com/orscore/ors/plugins/sdk"
)

// What each partition needs besides, as the paper says of release 4.
const (
	mebibyte        = 1 << 20
	memoryPartition = 32 * mebibyte
	diskPartition   = 100 * mebibyte
)

// Ready implements sdk.Application. What lies on a drive is only looked at when it is there: the partner may own it.
func (a *application) Ready(context.Context) []sdk.Problem {
	var f findings
	if !supported {
		f.add("", "", "%v", errUnsupported)
		return f
	}
	a.programReady(&f)
	for _, s := range a.servers {
		a.userReady(&f, s)
		a.dataReady(&f, s)
	}
	a.memoryReady(&f)
	return f
}

func (a *application) programReady(f *findings) {
	drive := driveOf(a.in.Drives, a.config.Program)
	if drive != nil && !mounted(drive.Path) && !exists(a.config.Program) {
		return
	}
	fi, err := os.Stat(a.config.Program)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.add("program", "Install Domino on both servers, or on the group's drive.", "%s is not there", a.config.Program)
	case err != nil:
		f.add("program", "", "%v", err)
	case fi.IsDir() || fi.Mode()&0o111 == 0:
		f.add("program", "Name the program file of the server.", "%s is not executable", a.config.Program)
	}
}

func (a *application) userReady(f *findings, s server) {
	if s.User == "" {
		return // Validate tells
	}
	u, err := s.lookupUser()
	switch {
	case err != nil:
		f.add(s.attribute("user"), "Create the user on this server, with the same number as on the partner.", "%v", err)
	case u.UID == 0:
		f.add(s.attribute("user"), "Name a user of its own.", "user %s is root", s.User)
	case os.Geteuid() != 0 && int(u.UID) != os.Geteuid():
		f.add(s.attribute("user"), "Run the agent as root.", "only root can run a program as %s", u.Name)
	default:
		a.userOfItsOwn(f, s, u.UID)
	}
}

// userOfItsOwn refuses a user that another server of the pair has by another name, or by its number.
func (a *application) userOfItsOwn(f *findings, s server, uid uint32) {
	for _, o := range a.pair {
		if o.same(s) || o.User == "" || o.User == s.User { // Validate tells of the same name
			continue
		}
		if u, err := o.lookupUser(); err == nil && u.UID == uid {
			f.add(s.attribute("user"), "Name a user of its own: cleaning up after one would end the other.",
				"the users %s of %s and %s of %s are the same one, number %d", s.User, s.Name, o.User, o.Name, uid)
		}
	}
}

// onDisk is how it is on this server.
var onDisk = files{there: exists, real: func(path string) string {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return path // it is not there yet
	}
	return real
}}

// dataReady reads what is in a data directory that is here.
func (a *application) dataReady(f *findings, s server) {
	if !exists(s.Data) {
		if drive := driveOf(s.drives, s.Data); drive != nil && mounted(drive.Path) {
			f.add(s.attribute("data"), "Make it, with the server's files.", "drive %s is mounted and has no directory %s",
				drive.Letter, s.Data)
		}
		return
	}
	b, err := os.ReadFile(s.ini())
	if err != nil {
		f.add(s.attribute("data"), "Put the server's notes.ini there.", "%v", err)
		return
	}
	ini := notesini.Parse(b)
	if a.config.EditIni {
		if _, err := edit(ini, s, a.servers); err != nil { // as a start would
			f.add(s.attribute("data"), "Leave one line of that key.", "%s cannot be edited: %v", s.ini(), err)
		}
	}
	*f = append(*f, inspect(ini, s, a.servers, a.pair, a.config.OnFailure, onDisk).all...)
	if room, ok := freeBytes(s.Data); ok && room < diskPartition {
		f.warn(s.attribute("data"), "Make room, or the volume larger.", "%d MB are free for %s; each partition needs 100 MB",
			room/mebibyte, s.Name)
	}
}

// memoryReady looks whether this server could carry the partitions of both.
func (a *application) memoryReady(f *findings) {
	total, ok := memoryBytes()
	if need := uint64(len(a.pair)) * memoryPartition; ok && total < need {
		f.warn("", "Add memory: one day this server runs the partitions of both.", "%s", fmt.Sprintf(
			"this server has %d MB of memory; %d partitions need %d MB", total/mebibyte, len(a.pair), need/mebibyte))
	}
}
