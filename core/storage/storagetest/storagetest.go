// Package storagetest is the conformance suite of switch drivers: what core/node relies on, asked of a real switch
// through the driver. It must never know a driver: everything it needs comes through storage.Switch.
package storagetest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/storage"
)

// patience bounds every call that is expected to succeed.
const patience = 20 * time.Second

// Run asks one unit through drivers that open makes, as seen from either server; the group's primary is
// failover.First. All of them must be drivers of the same unit. They are closed by the suite.
func Run(t *testing.T, open func(self failover.Server) storage.Switch) {
	s := suite{open: open}
	t.Run("swap and read back", s.swap)
	t.Run("conflict", s.conflict)
	t.Run("whole key is compared", s.wholeKey)
	t.Run("one of many swaps wins", s.race)
	t.Run("context", s.context)
	t.Run("close", s.close)
	t.Run("survives its drivers", s.survives)
}

type suite struct {
	open func(self failover.Server) storage.Switch
}

func (s suite) driver(t *testing.T, self failover.Server) storage.Switch {
	t.Helper()
	d := s.open(self)
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func ctx(t *testing.T) context.Context {
	t.Helper()
	c, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return c
}

func inspect(t *testing.T, d storage.Switch) storage.State {
	t.Helper()
	st, err := d.Inspect(ctx(t))
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func swap(t *testing.T, d storage.Switch, old, next failover.Key) storage.State {
	t.Helper()
	st, err := d.Swap(ctx(t), old, next)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// swap takes the unit through every owner and looks at what both servers then read.
func (s suite) swap(t *testing.T) {
	one, two := s.driver(t, failover.First), s.driver(t, failover.Second)
	if c := one.Capabilities(); c.Driver == "" || c.Endpoint == "" {
		t.Errorf("capabilities %+v name no driver or endpoint", c)
	}
	key := inspect(t, one).Key
	for _, c := range []struct {
		next     failover.Key
		position storage.Position
		led      storage.LED
	}{
		{key.Claimed(failover.First), storage.Port1, storage.LEDGreen},
		{key.Won(failover.Second, 7), storage.Port3, storage.LEDAmber},
		{failover.Key{Owner: failover.Second, N: 0xFFFFFFFF, Tag: 0xFFFFFFFF, By: failover.First}, storage.Port3,
			storage.LEDAmber},
		{failover.Key{Owner: failover.Nobody, N: 9, Tag: 8, By: failover.Second}, storage.Disconnected, storage.LEDOff},
		{key.Claimed(failover.First), storage.Port1, storage.LEDGreen},
	} {
		want := storage.State{Key: c.next, Position: c.position, LED: c.led}
		if got := swap(t, one, key, c.next); got != want {
			t.Errorf("Swap(%v, %v) returns %+v, want %+v", key, c.next, got, want)
		}
		for i, d := range []storage.Switch{one, two} {
			if got := inspect(t, d); got != want {
				t.Errorf("server %d reads %+v, want %+v", i+1, got, want)
			}
		}
		key = c.next
	}
}

// conflict: a stale key changes nothing and the key found is returned.
func (s suite) conflict(t *testing.T) {
	one, two := s.driver(t, failover.First), s.driver(t, failover.Second)
	stale := inspect(t, one).Key
	now := swap(t, one, stale, stale.Claimed(failover.First))
	got, err := two.Swap(ctx(t), stale, stale.Claimed(failover.Second))
	if !errors.Is(err, storage.ErrConflict) || got != now {
		t.Errorf("%+v, %v; want %+v and ErrConflict", got, err, now)
	}
	if got := inspect(t, two); got != now {
		t.Errorf("the unit is %+v after a conflict, was %+v", got, now)
	}
}

// wholeKey: each part of the expected key counts.
func (s suite) wholeKey(t *testing.T) {
	d := s.driver(t, failover.Second)
	key := failover.Key{Owner: failover.Second, N: 40, Tag: 3, By: failover.First}
	swap(t, d, inspect(t, d).Key, key)
	for _, wrong := range []failover.Key{
		{Owner: failover.First, N: 40, Tag: 3, By: failover.First},
		{Owner: failover.Second, N: 41, Tag: 3, By: failover.First},
		{Owner: failover.Second, N: 40, Tag: 2, By: failover.First},
		{Owner: failover.Second, N: 40, Tag: 3, By: failover.Second},
		{Owner: failover.Second, N: 40, Tag: 3, By: failover.Nobody},
	} {
		if _, err := d.Swap(ctx(t), wrong, wrong.Claimed(failover.First)); !errors.Is(err, storage.ErrConflict) {
			t.Errorf("expected %v, holds %v: %v, want ErrConflict", wrong, key, err)
		}
	}
	if got := inspect(t, d).Key; got != key {
		t.Errorf("holds %v, want %v", got, key)
	}
}

// race: of swaps from one key at the same time exactly one is granted, and the others read its key.
func (s suite) race(t *testing.T) {
	const rounds, each = 8, 3
	drivers := []storage.Switch{s.driver(t, failover.First), s.driver(t, failover.Second)}
	for range rounds {
		old := inspect(t, drivers[0]).Key
		var mu sync.Mutex
		var won, found []failover.Key
		var wg sync.WaitGroup
		for i := range drivers {
			for j := range each {
				next := failover.Key{Owner: failover.Server(i + 1), N: old.N + 1, Tag: uint32(j), By: failover.Server(i + 1)}
				wg.Go(func() {
					st, err := drivers[i].Swap(ctx(t), old, next)
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err == nil:
						won = append(won, st.Key)
					case errors.Is(err, storage.ErrConflict):
						found = append(found, st.Key)
					default:
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
		if len(won) != 1 {
			t.Fatalf("%d swaps of %v were granted: %v", len(won), old, won)
		}
		for _, k := range append(found, inspect(t, drivers[1]).Key) {
			if k != won[0] {
				t.Errorf("%v was granted, %v is found", won[0], k)
			}
		}
	}
}

// context: a call whose context has ended returns its error and that nothing is known.
func (s suite) context(t *testing.T) {
	d := s.driver(t, failover.First)
	key := inspect(t, d).Key
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := d.Inspect(over); !errors.Is(err, context.Canceled) {
		t.Errorf("Inspect: %v, want context.Canceled", err)
	}
	if _, err := d.Swap(over, key, key.Claimed(failover.First)); !errors.Is(err, context.Canceled) || errors.Is(err,
		storage.ErrConflict) {
		t.Errorf("Swap: %v, want context.Canceled", err)
	}
	if got := inspect(t, d).Key; got != key {
		t.Errorf("holds %v, was %v", got, key)
	}
}

// close: calls after Close fail and say nothing about the unit; closing again is harmless.
func (s suite) close(t *testing.T) {
	d, other := s.driver(t, failover.First), s.driver(t, failover.First)
	key := inspect(t, d).Key
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Inspect(ctx(t)); err == nil || errors.Is(err, storage.ErrNoUnit) {
		t.Errorf("Inspect after Close: %v", err)
	}
	if _, err := d.Swap(ctx(t), key, key.Released()); err == nil || errors.Is(err, storage.ErrConflict) {
		t.Errorf("Swap after Close: %v", err)
	}
	if got := inspect(t, other).Key; got != key {
		t.Errorf("another driver reads %v, want %v", got, key)
	}
}

// survives: the key is the switch's, not the driver's.
func (s suite) survives(t *testing.T) {
	var want storage.State
	t.Run("leave", func(t *testing.T) {
		d := s.driver(t, failover.First)
		key := inspect(t, d).Key
		want = swap(t, d, key, key.Won(failover.Second, key.Tag+1))
	})
	if got := inspect(t, s.driver(t, failover.Second)); got != want {
		t.Errorf("a new driver reads %+v, want %+v", got, want)
	}
}
