//go:build linux

// Package notes is a stand-in for a Domino server: what the lab protects where nobody has Domino. It does what
// matters to those who start, ask and stop one: it reads notes.ini in its working directory, refuses a data
// directory with a lock in it and an address that is taken, says its canonical name, passes clients on to the
// servers whose ports it maps, takes its time for a consistency check after an end without order, keeps mail that it
// has acknowledged, and ends when asked by -q.
//
// It says what it is in its first line. It must never be part of the product, and never acknowledge what is not on
// the disk.
package notes

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/orscore/ors/lab/store"
)

// FirstLine is what a stand-in says before anything else.
const FirstLine = "Stand-in for a Domino server, made for the lab of ORS. It is not HCL Domino."

// Files in the data directory, named as Domino's.
const (
	lockName  = "~notes.lck"
	pidName   = "pid.nbf"
	shmName   = "shm.nbf"
	semName   = "sem.nbf"
	mailName  = "mail"
	dirtyName = "lab.running" // the stand-in's own: it was not ended in order
)

// Run is the program: a server in the working directory, or with -q the end of the one that runs there.
func Run(args []string, out io.Writer) error {
	fmt.Fprintln(out, FirstLine)
	if os.Geteuid() == 0 {
		return errors.New("a server does not run as root")
	}
	if len(args) == 1 && args[0] == "-q" {
		return quit(out)
	}
	if len(args) > 0 {
		return fmt.Errorf("%q is not known; known is -q", args)
	}
	set, err := readSettings("notes.ini")
	if err != nil {
		return err
	}
	s := &server{set: set, out: out}
	return s.run()
}

// quit asks the server whose number is in the data directory to end.
func quit(out io.Writer) error {
	raw, err := os.ReadFile(pidName)
	if err != nil {
		return fmt.Errorf("no server runs here: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return err
	}
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	if there, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err != nil || there != here {
		return fmt.Errorf("no server runs here: process %d is none", pid)
	}
	fmt.Fprintf(out, "Server %d is asked to quit\n", pid)
	return syscall.Kill(pid, syscall.SIGUSR1)
}

type server struct {
	set  settings
	out  io.Writer
	mail *store.Store
}

func (s *server) say(format string, a ...any) {
	fmt.Fprintf(s.out, "%s  %s\n", time.Now().Format("15:04:05.000"), fmt.Sprintf(format, a...))
}

func (s *server) run() (err error) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	signal.Ignore(syscall.SIGTERM, syscall.SIGHUP)
	number := ""
	if n := os.Getenv("NotesServerPartition"); n != "" {
		number = ", partition " + n
	}
	s.say("%s starts%s", s.set.name, number)
	id := s.set.id
	if id == "" {
		id = "server.id"
	}
	if _, err := os.Stat(id); err != nil {
		return fmt.Errorf("the server's ID file: %w", err)
	}
	if err := lock(); err != nil {
		return err
	}
	unlock := func() { err = errors.Join(err, os.Remove(pidName), os.Remove(lockName)) }
	ports, err := reserve(s.set.bindings)
	if err != nil {
		unlock()
		return err
	}
	_, before := os.Stat(dirtyName)
	ipc, err := s.settle()
	if err != nil {
		return err
	}
	if before == nil && !s.consistency(asked) {
		return s.close(ports, ipc, unlock)
	}
	if s.mail, err = store.Open(mailName); err != nil {
		return err
	}
	if err := s.serve(asked, ports); err != nil { // it closes them
		return err
	}
	return s.close(nil, ipc, unlock)
}

// lock makes the file that keeps others out of the data directory, whoever has made the one that is there.
func lock() error {
	f, err := os.OpenFile(lockName, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("the data directory is in use: %s is there", lockName)
	}
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.WriteFile(pidName, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600)
}

// settle takes shared memory and a semaphore, as Domino does, and writes down that this server was not ended yet.
func (s *server) settle() (ipc func(), err error) {
	shm, err := unix.SysvShmGet(unix.IPC_PRIVATE, os.Getpagesize(), unix.IPC_CREAT|0o600)
	if err != nil {
		return nil, fmt.Errorf("shared memory: %w", err)
	}
	sem, _, errno := unix.Syscall(unix.SYS_SEMGET, unix.IPC_PRIVATE, 1, unix.IPC_CREAT|0o600)
	if errno != 0 {
		return nil, fmt.Errorf("semaphore: %w", errno)
	}
	for name, id := range map[string]int{shmName: shm, semName: int(sem)} {
		if err := os.WriteFile(name, []byte(strconv.Itoa(id)+"\n"), 0o600); err != nil {
			return nil, err
		}
	}
	f, err := os.Create(dirtyName)
	if err != nil {
		return nil, err
	}
	here, err := os.Open(".")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Sync(), f.Close(), here.Sync(), here.Close()); err != nil {
		return nil, err
	}
	return func() {
		_, _ = unix.SysvShmCtl(shm, unix.IPC_RMID, nil)
		_, _, _ = unix.Syscall(unix.SYS_SEMCTL, sem, 0, unix.IPC_RMID)
		for _, name := range []string{shmName, semName, dirtyName} {
			_ = os.Remove(name)
		}
	}, nil
}

// consistency takes the time that checking databases takes; false: it was asked to end meanwhile.
func (s *server) consistency(asked <-chan os.Signal) bool {
	s.say("%s was not ended in order: checking its databases for consistency", s.set.name)
	const parts = 4
	for i := range parts {
		s.say("Performing consistency check on mail%d.box", i+1)
		select {
		case <-time.After(s.set.check / parts):
		case <-asked:
			if !s.set.deaf {
				return false
			}
		}
	}
	s.say("Completed consistency checks")
	return true
}

func (s *server) close(ports []int, ipc, unlock func()) error {
	s.say("Server shutdown in progress")
	time.Sleep(s.set.closing)
	for _, fd := range ports {
		_ = unix.Close(fd)
	}
	var err error
	if s.mail != nil {
		err = s.mail.Close()
	}
	ipc()
	unlock()
	s.say("Server shutdown complete")
	return err
}

// reserve binds the ports and does not listen yet: nobody else can have them, and clients are refused.
func reserve(addresses []string) ([]int, error) {
	var all []int
	for _, at := range addresses {
		fd, err := bind(at)
		if err != nil {
			return nil, fmt.Errorf("port %s: %w", at, err)
		}
		all = append(all, fd)
	}
	if len(all) == 0 {
		return nil, errors.New("no TCP port is enabled")
	}
	return all, nil
}

func bind(at string) (int, error) {
	a, err := net.ResolveTCPAddr("tcp", at)
	if err != nil {
		return 0, err
	}
	family, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: a.Port, Addr: [16]byte(a.IP.To16())})
	if ip := a.IP.To4(); ip != nil {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(ip)}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err == nil {
		err = unix.Bind(fd, sa)
	}
	if err != nil {
		return 0, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// serve opens the ports and answers clients until the server is asked to end.
func (s *server) serve(asked <-chan os.Signal, ports []int) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, fd := range ports {
		if err := unix.Listen(fd, 64); err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), "port")
		l, err := net.FileListener(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		defer context.AfterFunc(ctx, func() { _ = l.Close() })()
		wg.Go(func() { s.accept(ctx, cancel, l, &wg) })
	}
	s.say("%s is open for clients", s.set.name)
	for {
		select {
		case <-asked:
			if s.set.deaf {
				s.say("Asked to quit, and does not")
				continue
			}
			cancel(nil)
		case <-ctx.Done():
		}
		wg.Wait()
		if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
			return err // the disk is gone: what it says from now on would not be kept
		}
		return nil
	}
}

// accept serves the clients of one port. Mail that cannot be written ends the server.
func (s *server) accept(ctx context.Context, cancel context.CancelCauseFunc, l net.Listener, wg *sync.WaitGroup) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		wg.Go(func() {
			defer func() { _ = conn.Close() }()
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			if err := s.converse(conn); err != nil {
				cancel(fmt.Errorf("%s: %w", mailName, err))
			}
		})
	}
}

// converse answers one client. An error is the mail's, not the client's.
func (s *server) converse(conn net.Conn) error {
	in := bufio.NewReader(conn)
	if m, err := readMessage(in); err != nil || !isKind(m, isHello) {
		return nil
	}
	name := s.set.name
	if s.set.nameless {
		name = ""
	}
	if _, err := conn.Write(helloAnswer(name)); err != nil {
		return nil
	}
	line, err := in.ReadString('\n')
	if err != nil {
		return nil
	}
	want := strings.TrimSpace(strings.TrimPrefix(line, wants))
	at, mapped := s.set.mapped[strings.ToLower(want)]
	switch {
	case mapped:
		fmt.Fprintln(conn, isAt+at)
	case !strings.EqualFold(want, s.set.name):
		fmt.Fprintln(conn, isUnknown)
	default:
		fmt.Fprintln(conn, isHere)
		return s.mail.Converse(in, conn)
	}
	return nil
}
