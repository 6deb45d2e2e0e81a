// Package watchdog drives a hardware watchdog through the kernel's device (Documentation/watchdog/watchdog-api.rst): a
// server that holds groups and whose agent stays silent is rebooted by it.
//
// It must never feed the device by itself: only somebody else's word that all is well does that.
package watchdog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Options of a Watchdog.
type Options struct {
	Device  string        // such as /dev/watchdog0
	Timeout time.Duration // whole seconds: without a feed for so long the device reboots the server
	Log     hclog.Logger
	// Tell is told what an operator should know: a code, what is wrong, what to do. An empty text: it is well again.
	Tell func(code, text, next string)
}

// CodeDevice is the code of what Tell tells.
const CodeDevice = "ORS-1062"

// device is an open watchdog: from its opening on, it must be fed.
type device interface {
	setTimeout(time.Duration) (time.Duration, error) // what the device made of it
	feed() error
	disarm() error // the magic close: the device's timer ends. Any other close leaves it running
}

// Watchdog is armed while it is told that this server holds groups, and fed with each such word.
type Watchdog struct {
	o     Options
	words chan bool // the newest word
	open  func(path string) (device, error)
}

// New makes a watchdog. The device is not opened before Run is told that groups are held.
func New(o Options) *Watchdog {
	if o.Log == nil {
		o.Log = hclog.NewNullLogger()
	}
	if o.Tell == nil {
		o.Tell = func(string, string, string) {}
	}
	return &Watchdog{o: o, words: make(chan bool, 1), open: openDevice}
}

// Well says that whoever calls it runs, and whether this server holds groups. It never waits.
func (w *Watchdog) Well(holds bool) {
	for {
		select {
		case w.words <- holds:
			return
		default:
		}
		select { // an older word that nobody has taken
		case <-w.words:
		default:
		}
	}
}

// Run drives the device until ctx ends; then it is disarmed: the agent ends in order. An agent that dies does not come
// here, so the device is not disarmed, and reboots the server unless a new agent feeds it in time.
func (w *Watchdog) Run(ctx context.Context) {
	var d device
	var retryAt, fedAt time.Time
	failing := false
	failed := func(err error) {
		if !failing {
			w.o.Log.Error(CodeDevice+": the watchdog is not at work", "device", w.o.Device, "error", err)
			w.o.Tell(CodeDevice, fmt.Sprintf("The watchdog %s is not at work: %v", w.o.Device, err),
				"look at the device and its driver; until then nothing reboots this server when its agent dies")
		}
		failing, retryAt = true, time.Now().Add(time.Second)
	}
	for {
		var holds bool
		select {
		case <-ctx.Done():
			w.disarm(d)
			return
		case holds = <-w.words:
		}
		now := time.Now()
		switch {
		case !holds:
			w.disarm(d)
			d = nil
		case d == nil && now.Before(retryAt):
		case d == nil:
			var err error
			if d, err = w.arm(); err != nil {
				failed(err)
				break
			}
			fedAt = now
		case now.Sub(fedAt) < w.o.Timeout/10: // often enough
		default:
			if err := d.feed(); err != nil {
				failed(err)
				break
			}
			fedAt = now
		}
		if d != nil && failing && fedAt.Equal(now) {
			failing = false
			w.o.Tell(CodeDevice, "", "")
		}
	}
}

// arm opens the device and sets its time.
func (w *Watchdog) arm() (device, error) {
	d, err := w.open(w.o.Device)
	if err != nil {
		return nil, err
	}
	got, err := d.setTimeout(w.o.Timeout)
	if err == nil {
		err = d.feed()
	}
	if err != nil {
		return nil, errors.Join(err, d.disarm())
	}
	w.o.Log.Info("the watchdog is armed: this server holds groups", "device", w.o.Device, "timeout", got)
	if got != w.o.Timeout {
		w.o.Log.Warn("the watchdog has made another time of it", "asked", w.o.Timeout, "set", got)
	}
	return d, nil
}

func (w *Watchdog) disarm(d device) {
	if d == nil {
		return
	}
	if err := d.disarm(); err != nil {
		w.o.Log.Error(CodeDevice+": the watchdog cannot be disarmed: it reboots this server soon", "device", w.o.Device,
			"error", err)
		return
	}
	w.o.Log.Info("the watchdog is disarmed", "device", w.o.Device)
}
