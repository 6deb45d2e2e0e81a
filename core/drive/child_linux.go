package drive

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
)

// helperPath is where a helper looks for filesystem checkers.
const helperPath = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin"

type op string

// What a helper can be asked for.
const (
	opStage    op = "mounting"
	opPlace    op = "giving a letter"
	opWriteMap op = "writing the map file"
	opFind     op = "finding the mount"
	opAlive    op = "reading a block"
	opUnmount  op = "unmounting"
	opBusy     op = "finding the users"
	opShutdown op = "shutting the filesystem down"
	opDetach   op = "detaching"
	opLetters  op = "listing letters"
)

type request struct {
	Op       op
	Root     string   // drive root
	Spec     Spec     // stage, place, find
	Mounted  Mounted  // of the others
	Want     string   // place: the letter to have
	Reserved []string // place: letters that are not for others
	Map      Map      // writemap
}

func (r request) subject() string {
	if r.Spec.Volume != "" {
		return r.Spec.Volume
	}
	if r.Mounted.Volume != "" {
		return r.Mounted.Volume
	}
	return r.Root
}

type reply struct {
	Failed   *failure  `json:",omitempty"`
	Found    bool      `json:",omitempty"` // stage, find: Mounted is there already
	Mounted  Mounted   // stage, place, find
	Map      Map       // stage
	MapError *Error    `json:",omitempty"` // stage: the map file is damaged
	Problems []*Error  `json:",omitempty"`
	Busy     []Busy    `json:",omitempty"`
	Letters  []Mounted `json:",omitempty"`
}

// failure is an error on its way through the pipe.
type failure struct {
	Code, Text, Next string
	Cause            string
	Errno            syscall.Errno
	Busy             *BusyError `json:",omitempty"`
}

// cause is an error that has come through the pipe: its text, and the errno to branch on.
type cause struct {
	text  string
	errno syscall.Errno
}

func (c *cause) Error() string { return c.text }

func (c *cause) Is(target error) bool {
	return c.errno != 0 && (target == c.errno || c.errno.Is(target))
}

func fail(err error) *failure {
	f := &failure{Code: CodeHelper, Text: err.Error()}
	var e *Error
	if errors.As(err, &f.Busy) {
		return f
	}
	if errors.As(err, &e) {
		f.Code, f.Text, f.Next = e.Code, e.Text, e.Next
		if e.Err != nil {
			f.Cause = e.Err.Error()
		}
	}
	errors.As(err, &f.Errno)
	return f
}

func (f *failure) error() error {
	if f.Busy != nil {
		return f.Busy
	}
	e := &Error{Code: f.Code, Text: f.Text, Next: f.Next}
	if f.Cause != "" {
		e.Err = &cause{f.Cause, f.Errno}
	}
	return e
}

// init is the helper's main: it must not depend on whether a program's main knows of helpers, or such a program would
// start itself again as what it is.
func init() {
	if os.Getenv(HelperEnv) == "" {
		return
	}
	runtime.LockOSThread() // a checker is killed when this thread ends
	if err := serveHelper(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serveHelper does what it is asked for until its input ends.
func serveHelper(in, out *os.File) error {
	w := &worker{staged: -1}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return err
		}
		rep, err := w.do(r)
		if err != nil {
			rep.Failed = fail(err)
		}
		b, err := json.Marshal(rep)
		if err != nil {
			return err
		}
		if _, err := out.Write(append(b, '\n')); err != nil {
			return err
		}
	}
	return lines.Err()
}

// worker does the work in the helper process.
type worker struct {
	staged int // descriptor of a mount that has no place yet, or -1: it goes when the helper ends
	volume volume
}

func (w *worker) do(r request) (reply, error) {
	switch r.Op {
	case opStage:
		return w.stage(r)
	case opPlace:
		return w.place(r)
	case opWriteMap:
		return reply{}, writeMap(r.Mounted.Path, r.Map)
	case opFind:
		return find(r)
	case opAlive:
		return reply{}, alive(r.Mounted)
	case opUnmount:
		return reply{}, unmount(r.Root, r.Mounted)
	case opBusy:
		return reply{Busy: users(r.Mounted)}, nil
	case opShutdown:
		return reply{}, shutdown(r.Root, r.Mounted)
	case opDetach:
		return reply{}, detach(r.Root, r.Mounted)
	case opLetters:
		ls, err := assigned(r.Root)
		return reply{Letters: ls}, err
	}
	return reply{}, fmt.Errorf("request %q is not known", r.Op)
}
