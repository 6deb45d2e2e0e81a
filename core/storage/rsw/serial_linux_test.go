package rsw

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/storage"
	"github.com/orscore/ors/core/storage/storagetest"
	"github.com/orscore/ors/internal/cobs"
)

// cable is a pty pair: the switch has the master, the driver opens the slave as its serial port. A descriptor of the
// slave is kept, as the master of a pair without one reads an error. The master is opened non-blocking, so that Close
// ends a Read.
func cable(t *testing.T) (master *os.File, endpoint string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	cerr := raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	name := fmt.Sprintf("/dev/pts/%d", n)
	slave, oerr := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err := errors.Join(err, cerr, oerr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = master.Close() // by then often closed
		_ = slave.Close()
	})
	return master, "serial:" + name + "?baud=115200"
}

func TestSerialConformance(t *testing.T) {
	master, endpoint := cable(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	// The unit's drivers of both servers share the one line; that two agents are on two lines makes no difference to the
	// switch.
	go func() { done <- Serve(ctx, master, newRegister("storage2")) }()
	storagetest.Run(t, func(self failover.Server) storage.Switch {
		s, err := New(Options{Endpoint: endpoint, Unit: "storage2", Self: self, Primary: failover.First,
			Timeout: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Two agents on two lines of one switch claim the same unit.
func TestTwoLinesOfOneSwitch(t *testing.T) {
	b := newRegister("storage2")
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var granted [2]map[uint32]bool
	var agents sync.WaitGroup
	for i := range granted {
		master, endpoint := cable(t)
		wg.Go(func() {
			if err := Serve(ctx, master, b); err != nil {
				t.Error(err)
			}
		})
		self := failover.Server(i + 1)
		d := open(t, Options{Endpoint: endpoint, Self: self})
		granted[i] = map[uint32]bool{}
		agents.Go(func() {
			for range 50 {
				s, err := d.Inspect(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				next := s.Key.Claimed(self)
				if _, err := d.Swap(ctx, s.Key, next); err == nil {
					granted[i][next.N] = true
				} else if !errors.Is(err, storage.ErrConflict) {
					t.Error(err)
					return
				}
			}
		})
	}
	agents.Wait()
	for n := range granted[0] {
		if granted[1][n] {
			t.Errorf("epoch %d was granted to both", n)
		}
	}
	if n := len(granted[0]) + len(granted[1]); uint32(n) != b.units["storage2"].Key.N {
		t.Errorf("%d grants, but the switch is at %v", n, b.units["storage2"].Key)
	}
}

// The answer to a request that was given up comes while a later one waits: it must not be taken for the later one's.
func TestSerialLateAnswer(t *testing.T) {
	master, endpoint := cable(t)
	gaveUp := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		frames := cobs.NewReader(master, maxPacket)
		var first request
		for n := 0; ; n++ {
			p, err := frames.Next()
			if err != nil {
				return
			}
			body, ok := checked(p)
			r, err := decodeRequest(body)
			if !ok || err != nil {
				t.Error("the driver sent no request")
				return
			}
			if n == 0 {
				first = r
				<-gaveUp
				continue
			}
			late := answer{cmd: first.cmd, id: first.id, state: WireState{Key: WireKey{N: 1}, LED: storage.LEDOff}}.encode()
			now := answer{cmd: r.cmd, id: r.id, state: WireState{Key: WireKey{N: 2}, LED: storage.LEDOff}}.encode()
			if _, err := master.Write(append(append(late, "\xf0noise"...), now...)); err != nil {
				t.Error(err)
			}
		}
	}()
	quick := open(t, Options{Endpoint: endpoint, Timeout: 30 * time.Millisecond})
	if _, err := quick.Inspect(t.Context()); !errors.Is(err, storage.ErrUnknown) {
		t.Errorf("%v", err)
	}
	close(gaveUp)
	s, err := open(t, Options{Endpoint: endpoint}).Inspect(t.Context())
	if err != nil || s.Key.N != 2 {
		t.Errorf("%+v %v, want the answer to this request", s, err)
	}
	if err := master.Close(); err != nil {
		t.Error(err)
	}
	<-done
}

// A line whose other end takes nothing fills up; every call ends in time all the same, and the line works again later.
func TestSerialStall(t *testing.T) {
	master, endpoint := cable(t)
	d := open(t, Options{Endpoint: endpoint, Timeout: time.Millisecond})
	stalled := false
	for range 2000 {
		_, err := d.Inspect(t.Context())
		if !errors.Is(err, storage.ErrUnknown) {
			t.Fatalf("%v", err)
		}
		if strings.Contains(err.Error(), "sending") {
			stalled = true
			break
		}
	}
	if !stalled {
		t.Error("the line never filled up")
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, master, newRegister("storage2")) }()
	if _, err := open(t, Options{Endpoint: endpoint}).Inspect(t.Context()); err != nil {
		t.Errorf("after the stall: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestSerialPortIsExclusive(t *testing.T) {
	_, endpoint := cable(t)
	path, _, _ := strings.Cut(strings.TrimPrefix(endpoint, "serial:"), "?")
	one, err := openSerial(path, 9600)
	if err != nil {
		t.Fatal(err)
	}
	if two, err := openSerial(path, 9600); err == nil {
		t.Error("opened twice")
		_ = two.Close()
	}
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := openSerial(path, 9600)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestSerialPortThatIsNone(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, "/dev/no-such-port"} {
		d := open(t, Options{Endpoint: "serial:" + path})
		if _, err := d.Inspect(t.Context()); !errors.Is(err, storage.ErrUnknown) || !strings.Contains(err.Error(), path) {
			t.Errorf("%v", err)
		}
	}
}
