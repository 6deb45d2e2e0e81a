package watchdog

import (
	"context"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/orscore/ors/core/watchdog/watchdogtest"
)

const patience = 30 * time.Second

// childEnv makes the test binary an agent that arms the device, says that it does, and hangs.
const childEnv = "ORS_TEST_WATCHDOG"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		w := New(Options{Device: path, Timeout: 2 * time.Second})
		go w.Run(context.Background())
		for {
			w.Well(true)
			time.Sleep(50 * time.Millisecond)
		}
	}
	goleak.VerifyTestMain(m)
}

// run drives a watchdog until the test ends, or end is called.
func run(t *testing.T, o Options) (w *Watchdog, end func()) {
	t.Helper()
	w = New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	end = func() { cancel(); <-done }
	t.Cleanup(end)
	return w, end
}

// keep says so again and again until cond holds.
func keep(t *testing.T, say func(), cond func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("it did not come to that in time")
		}
		say()
	}
}

func TestArmedWhileGroupsAreHeld(t *testing.T) {
	d, path := watchdogtest.New(t)
	w, end := run(t, Options{Device: path, Timeout: 2 * time.Second})
	keep(t, func() { w.Well(false) }, func() bool { return len(w.words) == 0 })
	if running, _, _ := d.Look(); running {
		t.Error("armed although no groups are held")
	}
	keep(t, func() { w.Well(true) }, func() bool { _, _, feeds := d.Look(); return feeds > 15 }) // more than 2 s
	if running, reboots, _ := d.Look(); !running || reboots {
		t.Errorf("fed: running %v, reboots %v", running, reboots)
	}
	if d.Timeout() != 2*time.Second {
		t.Errorf("its time is %v", d.Timeout())
	}
	keep(t, func() { w.Well(false) }, func() bool { running, _, _ := d.Look(); return !running })
	keep(t, func() { w.Well(true) }, func() bool { running, _, _ := d.Look(); return running })
	end() // the kernel tells the server of the file a little later
	keep(t, func() {}, func() bool { running, _, _ := d.Look(); return !running })
	if _, reboots, _ := d.Look(); reboots {
		t.Error("it has rebooted a server that was well")
	}
}

// Nobody says that all is well: the loop hangs.
func TestBarksWhenTheLoopHangs(t *testing.T) {
	d, path := watchdogtest.New(t)
	w, _ := run(t, Options{Device: path, Timeout: time.Second})
	keep(t, func() { w.Well(true) }, func() bool { running, _, _ := d.Look(); return running })
	keep(t, func() {}, func() bool { _, reboots, _ := d.Look(); return reboots })
}

// A frozen or killed process closes nothing in order.
func TestBarksWhenTheAgentDies(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "frozen": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			d, path := watchdogtest.New(t)
			exe, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			child := exec.Command(exe)
			child.Env = append(os.Environ(), childEnv+"="+path)
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = child.Process.Kill()
				_ = child.Wait()
			}()
			keep(t, func() {}, func() bool { _, _, feeds := d.Look(); return feeds > 3 })
			if err := child.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			keep(t, func() {}, func() bool { _, reboots, _ := d.Look(); return reboots })
		})
	}
}

func TestWhatIsTold(t *testing.T) {
	d, path := watchdogtest.New(t)
	d.Shortest(5)
	var mu sync.Mutex
	var told []string
	w, _ := run(t, Options{Device: path, Timeout: time.Second, Tell: func(_, text, _ string) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, text)
	}})
	heard := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(told)
	}
	keep(t, func() { w.Well(true) }, func() bool { _, _, feeds := d.Look(); return feeds > 1 })
	d.Refuse(syscall.EIO)
	keep(t, func() { w.Well(true) }, func() bool { return heard() == 1 })
	d.Refuse(0)
	keep(t, func() { w.Well(true) }, func() bool { return heard() == 2 })
	if told[0] == "" || told[1] != "" {
		t.Errorf("told %q", told)
	}
	// Another program has it already.
	var other []string
	second, _ := run(t, Options{Device: path, Timeout: time.Second, Tell: func(_, text, _ string) {
		mu.Lock()
		defer mu.Unlock()
		other = append(other, text)
	}})
	keep(t, func() { second.Well(true); w.Well(true) }, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(other) > 0
	})
}
