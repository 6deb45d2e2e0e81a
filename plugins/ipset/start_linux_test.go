package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/orscore/ors/internal/bootclock"
)

// hold locks a file as another program does, and returns what gives it up.
func hold(t testing.TB, path string) (release func()) {
	t.Helper()
	f, err := os.Open(path)
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() { _ = f.Close() }
}

// during renews every 100 ms with a lease of a second while a start is under way, and says how often the address was
// asked for, from its first answer on, and not heard though its lease had not ended.
func (f *fixture) during(addr string) (asked, missed int, err error) {
	f.Helper()
	p := f.pinger()
	ended := make(chan error, 1)
	var until time.Duration
	var sequence uint64
	renew := func() {
		sequence++
		now := bootclock.Now()
		if _, err := f.renew(sequence, now+time.Second); err == nil {
			until = now + time.Second
		}
	}
	renew()
	go func() {
		_, err := f.start()
		ended <- err
	}()
	for next := time.Now(); ; {
		select {
		case err := <-ended:
			return asked, missed, err
		default:
		}
		if time.Now().After(next) {
			next = time.Now().Add(100 * time.Millisecond)
			renew()
		}
		answered := p.answered(addr) || p.answered(addr) || p.answered(addr)
		if asked == 0 && !answered {
			continue
		}
		asked++
		if !answered && bootclock.Until(until) > 200*time.Millisecond {
			missed++
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestRenewedWhileTheHostsFileIsLocked: the address is here, and its start waits for the hosts file. It stays reachable.
func TestRenewedWhileTheHostsFileIsLocked(t *testing.T) {
	for _, addr := range []string{groupAddress, groupAddress6} {
		t.Run(addr, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "hosts")
			if err := os.WriteFile(file, []byte("127.0.0.1 localhost\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			f := protect(t, map[string]any{"addresses": both,
				"hosts": []map[string]any{{"names": []string{"rocky"}, "file": file}}})
			f.powerOff("rocky")
			release := hold(t, file)
			defer release()
			time.AfterFunc(4*time.Second, release)
			asked, missed, err := f.during(addr)
			if err != nil {
				t.Fatal("start:", err)
			}
			t.Logf("%d questions", asked)
			if asked < 50 || missed > 0 {
				t.Errorf("%d of %d questions were not answered while the start waited", missed, asked)
			}
			if b, err := os.ReadFile(file); err != nil || !strings.Contains(string(b), groupAddress6+"\trocky") {
				t.Errorf("the hosts file is %q, %v", b, err)
			}
		})
	}
}

// TestRenewedWhileOthersAreAskedFor: one address is here, and the start asks for the other one for long.
func TestRenewedWhileOthersAreAskedFor(t *testing.T) {
	t.Parallel()
	f := protect(t, map[string]any{"address": groupAddress + "/24"})
	f.powerOff("rocky")
	f.mustStart()
	f.configure(map[string]any{"addresses": []string{groupAddress + "/24", "172.25.36.47/24"}, "probe": "4s"})
	if asked, missed, err := f.during(groupAddress); err != nil || asked < 50 || missed > 0 {
		t.Errorf("%d of %d questions were not answered while the start asked; %v", missed, asked, err)
	}
	f.wantAddresses("172.25.36.45/24 eth0:ors", "172.25.36.46/24 eth0", "172.25.36.47/24 eth0:ors", "172.25.36.48/24 eth0")
}
