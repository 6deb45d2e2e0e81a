//go:build linux

package enclosure

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/storage"
	"github.com/orscore/ors/core/storage/rsw"
)

const unitSize = 64 << 20

func testConfig(t *testing.T) Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "enc") // short: a unix socket's path has a limit
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return Config{Dir: dir, Units: []UnitConfig{
		{Name: "storage1", Size: unitSize, Hosts: map[string]string{"1": "rocky", "3": "apollo"}},
		{Name: "storage2", Size: unitSize, Hosts: map[string]string{"1": "apollo", "3": "rocky"}},
	}}
}

func open(t *testing.T, cfg Config) *Enclosure {
	t.Helper()
	e, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() }) // closed twice by some tests
	return e
}

func swap(t *testing.T, e *Enclosure, name string, to storage.Position) rsw.WireState {
	t.Helper()
	st, err := e.Inspect(name)
	if err != nil {
		t.Fatal(err)
	}
	next := st.Key
	next.Owner, next.N = to, next.N+1
	st, err = e.Swap(name, st.Key, next)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestSwitch(t *testing.T) {
	e := open(t, testConfig(t))
	fresh := rsw.WireKey{Owner: 1, N: 1}
	for _, tt := range []struct {
		name      string
		unit      string
		old, next rsw.WireKey
		wantErr   error
		want      rsw.WireState
	}{
		{"to port 3", "storage1", fresh, rsw.WireKey{Owner: 3, N: 2, Tag: 7, By: 3}, nil,
			rsw.WireState{Key: rsw.WireKey{Owner: 3, N: 2, Tag: 7, By: 3}, Position: 3, LED: storage.LEDAmber}},
		{"a stale key", "storage1", fresh, rsw.WireKey{Owner: 1, N: 2}, storage.ErrConflict,
			rsw.WireState{Key: rsw.WireKey{Owner: 3, N: 2, Tag: 7, By: 3}, Position: 3, LED: storage.LEDAmber}},
		{"release", "storage1", rsw.WireKey{Owner: 3, N: 2, Tag: 7, By: 3}, rsw.WireKey{N: 3, Tag: 7, By: 3}, nil,
			rsw.WireState{Key: rsw.WireKey{N: 3, Tag: 7, By: 3}, LED: storage.LEDOff}},
		{"the other unit is where it was", "storage2", fresh, rsw.WireKey{Owner: 1, N: 2}, nil,
			rsw.WireState{Key: rsw.WireKey{Owner: 1, N: 2}, Position: 1, LED: storage.LEDGreen}},
		{"no such unit", "storage3", fresh, fresh, storage.ErrNoUnit, rsw.WireState{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := e.Swap(tt.unit, tt.old, tt.next)
			if !errors.Is(err, tt.wantErr) || got != tt.want {
				t.Errorf("got %+v, %v; want %+v, %v", got, err, tt.want, tt.wantErr)
			}
		})
	}
}

func TestKeysSurviveARestart(t *testing.T) {
	cfg := testConfig(t)
	e := open(t, cfg)
	want := swap(t, e, "storage1", storage.Port3)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, cfg)
	if got, err := again.Inspect("storage1"); err != nil || got != want {
		t.Errorf("after a restart: %+v, %v; want %+v", got, err, want)
	}
	if err := again.PowerCycle(); err != nil {
		t.Fatal(err)
	}
	want.Key.Owner, want.Key.N, want.Position, want.LED = 1, want.Key.N+1, 1, storage.LEDGreen
	if got, err := again.Inspect("storage1"); err != nil || got != want {
		t.Errorf("after a power cycle: %+v, %v; want %+v", got, err, want)
	}
}

func TestADamagedStateIsNotGuessedAt(t *testing.T) {
	cfg := testConfig(t)
	if err := os.WriteFile(cfg.statePath(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(cfg); err == nil {
		t.Error("opened with a damaged state")
	}
}

func TestAStateThatCannotBeWrittenMovesNothing(t *testing.T) {
	cfg := testConfig(t)
	e := open(t, cfg)
	if err := os.Mkdir(cfg.statePath()+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	old := rsw.WireKey{Owner: 1, N: 1}
	if _, err := e.Swap("storage1", old, rsw.WireKey{Owner: 3, N: 2}); err == nil || errors.Is(err, storage.ErrConflict) {
		t.Errorf("swap without a record: %v", err)
	}
	if st, err := e.Inspect("storage1"); err != nil || st.Key != old || st.Position != 1 {
		t.Errorf("the switch moved: %+v, %v", st, err)
	}
	if _, err := e.units["storage1"].writeAt(1, make([]byte, 512), 0); err != nil {
		t.Errorf("the owner is cut off: %v", err)
	}
}

func TestIOAtAPort(t *testing.T) {
	e := open(t, testConfig(t))
	u := e.units["storage1"]
	b := make([]byte, 4096)
	check := func(name string, p storage.Position, want error) {
		t.Helper()
		if _, err := u.writeAt(p, b, 0); !errors.Is(err, want) {
			t.Errorf("%s: write at port %d: %v, want %v", name, p, err, want)
		}
		if _, err := u.readAt(p, b, 0); !errors.Is(err, want) {
			t.Errorf("%s: read at port %d: %v, want %v", name, p, err, want)
		}
		if err := u.sync(p); !errors.Is(err, want) {
			t.Errorf("%s: sync at port %d: %v, want %v", name, p, err, want)
		}
	}
	check("at home", 1, nil)
	check("at home", 3, unix.EIO)
	swap(t, e, "storage1", storage.Port3)
	check("switched", 1, unix.EIO)
	check("switched", 3, nil)
	if err := e.SetHost("apollo", true); err != nil {
		t.Fatal(err)
	}
	check("the host has no power", 3, unix.EIO)
	if err := e.SetHost("apollo", false); err != nil {
		t.Fatal(err)
	}
	check("the host has power again", 3, nil)
	swap(t, e, "storage1", storage.Disconnected)
	check("disconnected", 1, unix.EIO)
	check("disconnected", 3, unix.EIO)
	if err := e.SetHost("nobody", true); err == nil {
		t.Error("an unknown host was accepted")
	}
	if _, err := u.writeAt(0, b, 0); err == nil && u.connected != 0 {
		t.Error("a write beside all ports was accepted")
	}
	swap(t, e, "storage1", storage.Port1)
	if _, err := u.writeAt(1, b, unitSize-100); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a write beyond the end: %v", err)
	}
	if n, err := u.readAt(1, b, unitSize-100); n != 100 || err != nil {
		t.Errorf("a read across the end: %d, %v", n, err)
	}
}

// No write of the old port may land after the swap was answered: each writer writes its port's number as long as it
// may, and once the switch has moved, the byte must stay the new port's.
func TestNoWriteLandsAfterTheSwap(t *testing.T) {
	e := open(t, testConfig(t))
	u := e.units["storage1"]
	var stop atomic.Bool
	var wg sync.WaitGroup
	for _, p := range ports {
		wg.Go(func() {
			b := []byte{byte(p)}
			for !stop.Load() {
				_, _ = u.writeAt(p, b, 0) // refused half of the time: that is the point
			}
		})
	}
	to := map[storage.Position]storage.Position{1: 3, 3: 1}
	at := storage.Port1
	for range 50 {
		swap(t, e, "storage1", to[at])
		at = to[at]
		b := []byte{0}
		if _, err := u.writeAt(at, []byte{byte(at)}, 0); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if _, err := u.readAt(at, b, 0); err != nil || b[0] != byte(at) {
				t.Fatalf("byte is port %d's after the switch moved to port %d (%v)", b[0], at, err)
			}
		}
	}
	stop.Store(true)
	wg.Wait()
}

// serve runs the whole enclosure in this process.
func serve(t *testing.T, cfg Config) *Client {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("FUSE mounts need root")
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, cfg) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	dialing, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	c, err := Dial(dialing, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestProtocolOverSocketAndSerialLine(t *testing.T) {
	cfg := testConfig(t)
	c := serve(t, cfg)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	line, err := filepath.EvalSymlinks(cfg.LinePath("apollo"))
	if err != nil {
		t.Fatal(err)
	}
	at := map[failover.Server]string{
		failover.First: "unix:" + cfg.SocketPath(), failover.Second: "serial:" + line + "?baud=115200",
	}
	sw := map[failover.Server]storage.Switch{}
	for s, endpoint := range at {
		d, err := rsw.New(rsw.Options{Endpoint: endpoint, Unit: "storage1", Self: s, Primary: failover.First})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		sw[s] = d
	}
	st, err := sw[failover.First].Inspect(ctx)
	if err != nil || st.Key.Owner != failover.First {
		t.Fatalf("at the socket: %+v, %v", st, err)
	}
	st, err = sw[failover.Second].Swap(ctx, st.Key, st.Key.Claimed(failover.Second))
	if err != nil || st.Position != storage.Port3 || st.LED != storage.LEDAmber {
		t.Fatalf("over the serial line: %+v, %v", st, err)
	}
	units, err := c.Status()
	if err != nil || len(units) != 2 || units[0].State.Position != storage.Port3 {
		t.Errorf("the lab sees %+v, %v", units, err)
	}
}
