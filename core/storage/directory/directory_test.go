package directory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/storage"
	"github.com/orscore/ors/core/storage/storagetest"
)

// claimEnv makes the test binary a process that claims a unit again and again: path, server.
const claimEnv = "ORS_TEST_CLAIM"

func TestMain(m *testing.M) {
	if arg := os.Getenv(claimEnv); arg != "" {
		claimer(arg)
		return
	}
	goleak.VerifyTestMain(m)
}

func open(t testing.TB, path string, self failover.Server) *driver {
	t.Helper()
	s, err := New(Options{Path: path, Unit: "storage2", Self: self, Primary: failover.First})
	if err != nil {
		t.Fatal(err)
	}
	return s.(*driver)
}

func TestConformance(t *testing.T) {
	path := t.TempDir()
	storagetest.Run(t, func(self failover.Server) storage.Switch { return open(t, path, self) })
}

func TestFirstUseMakesUnitOfNobody(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "units"), failover.First)
	s, err := d.Inspect(t.Context())
	if err != nil || s != (storage.State{LED: storage.LEDOff}) {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := os.Stat(filepath.Join(d.dir, "disconnected", markFile)); err != nil {
		t.Error(err)
	}
}

// The contents are found only by the server to which the unit is connected.
func TestContentsFollowTheKey(t *testing.T) {
	path := t.TempDir()
	one, two := open(t, path, failover.First), open(t, path, failover.Second)
	v1, v2 := one.Capabilities().Volume, two.Capabilities().Volume
	if filepath.Base(v1) != "port1" || filepath.Base(v2) != "port3" || one.Capabilities().Fences {
		t.Errorf("%+v %+v", one.Capabilities(), two.Capabilities())
	}
	key := failover.Key{}
	claim := func(next failover.Key) {
		t.Helper()
		if _, err := one.Swap(t.Context(), key, next); err != nil {
			t.Fatal(err)
		}
		key = next
	}
	claim(key.Claimed(failover.First))
	if err := os.WriteFile(filepath.Join(v1, "data"), []byte("row"), 0o600); err != nil {
		t.Fatal(err)
	}
	claim(key.Claimed(failover.Second))
	if _, err := os.Stat(v1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the former owner still finds the contents: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(v2, "data")); err != nil || string(b) != "row" {
		t.Errorf("%q %v", b, err)
	}
	claim(key.Released())
	for _, v := range []string{v1, v2} {
		if _, err := os.Stat(v); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("released, but there is %s: %v", v, err)
		}
	}
}

// What a former owner writes to a place that it makes again is kept, and is not taken for the contents.
func TestStrayFolderIsMovedAway(t *testing.T) {
	path := t.TempDir()
	d := open(t, path, failover.First)
	key := failover.Key{}
	for turn, s := range []failover.Server{failover.First, failover.Second, failover.First, failover.Second,
		failover.First} {
		if _, err := d.Swap(t.Context(), key, key.Claimed(s)); err != nil {
			t.Fatal(err)
		}
		key = key.Claimed(s)
		stray := filepath.Join(d.dir, folder(d.port(s.Other())))
		if err := os.MkdirAll(stray, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(stray, "late"), []byte(fmt.Sprint(turn)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for turn := range 4 {
		b, err := os.ReadFile(filepath.Join(d.dir, fmt.Sprintf("stray-%d", turn+1), "late"))
		if err != nil || string(b) != fmt.Sprint(turn) {
			t.Errorf("%q %v", b, err)
		}
	}
	if _, err := os.Stat(filepath.Join(d.dir, "port1", markFile)); err != nil {
		t.Error(err)
	}
}

// A swap that ends at any point leaves the old or the new key, and the next call puts the contents where the key says.
func TestCrashPoints(t *testing.T) {
	crash := errors.New("crash")
	for _, c := range []struct {
		point string
		new   bool // the new key is there afterwards
	}{{"wrote new key", false}, {"replaced key", true}, {"moved contents", true}} {
		t.Run(c.point, func(t *testing.T) {
			path := t.TempDir()
			d := open(t, path, failover.First)
			old := failover.Key{}.Claimed(failover.First)
			if _, err := d.Swap(t.Context(), failover.Key{}, old); err != nil {
				t.Fatal(err)
			}
			d.crash = func(p string) error {
				if p == c.point {
					return crash
				}
				return nil
			}
			next := old.Claimed(failover.Second)
			if _, err := d.Swap(t.Context(), old, next); !errors.Is(err, crash) || !errors.Is(err, storage.ErrUnknown) {
				t.Fatalf("%v", err)
			}
			want := old
			if c.new {
				want = next
			}
			again := open(t, path, failover.Second)
			if s, err := again.Inspect(t.Context()); err != nil || s.Key != want {
				t.Errorf("%+v %v, want %v", s, err, want)
			}
			at, err := again.find()
			if err != nil || len(at) != 1 || at[0] != again.port(want.Owner) {
				t.Errorf("contents at %v, %v", at, err)
			}
			if _, err := again.Swap(t.Context(), want, want.Released()); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("create", func(t *testing.T) {
		path := t.TempDir()
		d := open(t, path, failover.First)
		d.crash = func(string) error { return crash }
		if _, err := d.Inspect(t.Context()); !errors.Is(err, crash) {
			t.Fatalf("%v", err)
		}
		if s, err := open(t, path, failover.First).Inspect(t.Context()); err != nil || s.Key != (failover.Key{}) {
			t.Errorf("%+v %v", s, err)
		}
	})
}

// Nothing is guessed: a tree that cannot be right is an error that says what to do.
func TestDamagedTree(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(d *driver) error
		says  string
	}{
		{"no contents", func(d *driver) error { return os.RemoveAll(filepath.Join(d.dir, "port1")) }, "put them back"},
		{"two contents", func(d *driver) error {
			return os.CopyFS(filepath.Join(d.dir, "port3"), os.DirFS(filepath.Join(d.dir, "port1")))
		}, "keep one"},
		{"no key", func(d *driver) error { return os.Remove(filepath.Join(d.dir, keyFile)) }, "restore it"},
		{"bad key", func(d *driver) error { return os.WriteFile(filepath.Join(d.dir, keyFile), []byte("{"), 0o600) },
			"damaged"},
		{"bad port", func(d *driver) error {
			return os.WriteFile(filepath.Join(d.dir, keyFile), []byte(`{"owner_port":2}`), 0o600)
		}, "damaged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := open(t, t.TempDir(), failover.First)
			key := failover.Key{}.Claimed(failover.First)
			if _, err := d.Swap(t.Context(), failover.Key{}, key); err != nil {
				t.Fatal(err)
			}
			if err := c.spoil(d); err != nil {
				t.Fatal(err)
			}
			_, err := d.Inspect(t.Context())
			var e *storage.Error
			if !errors.As(err, &e) || e.Code != storage.CodeContents || !errors.Is(err, storage.ErrUnknown) ||
				!strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestOptionsThatCannotBeRight(t *testing.T) {
	for _, o := range []Options{
		{Path: "units", Unit: "u", Self: failover.First, Primary: failover.First},
		{Path: "/units", Unit: "", Self: failover.First, Primary: failover.First},
		{Path: "/units", Unit: "../u", Self: failover.First, Primary: failover.First},
		{Path: "/units", Unit: "..", Self: failover.First, Primary: failover.First},
		{Path: "/units", Unit: "u", Self: failover.First},
		{Path: "/units", Unit: "u", Primary: failover.Second, Self: 3},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

func TestLockHeldByAnother(t *testing.T) {
	d := open(t, t.TempDir(), failover.First)
	if _, err := d.Inspect(t.Context()); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(d.dir, lockFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if ok, err := tryLock(f); !ok || err != nil {
		t.Fatal(ok, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := d.Inspect(ctx); !errors.Is(err, storage.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := d.Inspect(context.Background())
		done <- err
	}()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, storage.ErrUnknown) {
		t.Errorf("a call under way at Close: %v", err)
	}
}

// Two processes claim one unit as fast as they can: every epoch is granted once.
func TestProcessesRace(t *testing.T) {
	path := t.TempDir()
	granted := map[uint32]string{}
	var outs [2]strings.Builder
	var cmds [2]*exec.Cmd
	for i := range cmds {
		cmds[i] = exec.Command(os.Args[0])
		cmds[i].Env = append(os.Environ(), fmt.Sprintf("%s=%d:%s", claimEnv, i+1, path))
		cmds[i].Stdout, cmds[i].Stderr = &outs[i], os.Stderr
		if err := cmds[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range cmds {
		if err := cmds[i].Wait(); err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Fields(outs[i].String()) {
			var epoch uint32
			if err := json.Unmarshal([]byte(line), &epoch); err != nil {
				t.Fatal(err)
			}
			if by, dup := granted[epoch]; dup {
				t.Errorf("epoch %d was granted to %s and to process %d", epoch, by, i+1)
			}
			granted[epoch] = fmt.Sprintf("process %d", i+1)
		}
	}
	s, err := open(t, path, failover.First).Inspect(t.Context())
	if err != nil || int(s.Key.N) != len(granted) || len(granted) != 2*claims {
		t.Errorf("epoch %d after %d grants, %v", s.Key.N, len(granted), err)
	}
}

const claims = 40

func claimer(arg string) {
	d, err := New(Options{Path: arg[2:], Unit: "storage2", Self: failover.Server(arg[0] - '0'), Primary: failover.First})
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	var s storage.State
	for n := 0; n < claims && err == nil; {
		if s, err = d.Inspect(ctx); err != nil {
			break
		}
		next := s.Key.Claimed(failover.Server(arg[0] - '0'))
		if _, err = d.Swap(ctx, s.Key, next); err == nil {
			fmt.Println(next.N)
			n++
		} else if errors.Is(err, storage.ErrConflict) {
			err = nil
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
