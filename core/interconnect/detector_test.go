package interconnect

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const detectorTimeout = 2 * time.Second

// at is a moment so many milliseconds after some start.
func at(ms int) time.Time {
	return time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(ms) * time.Millisecond)
}

var never = LinkView{Name: "lan", Silent: true}

var detectorTests = map[string]struct {
	do   func(d *Detector)
	at   int
	want View
}{
	"never heard": {
		func(*Detector) {}, 5000,
		View{Links: []LinkView{{Name: "cable", Silent: true}, never}, AllSilent: true},
	},
	"one heard": {
		func(d *Detector) { d.Heard("cable", at(100)) }, 600,
		View{
			Links:     []LinkView{{Name: "cable", Ever: true, Heard: true, Age: 500 * time.Millisecond}, never},
			EverHeard: true, Next: at(2100),
		},
	},
	"the instant before the time-out": {
		func(d *Detector) { d.Heard("cable", at(0)) }, 1999,
		View{
			Links:     []LinkView{{Name: "cable", Ever: true, Heard: true, Age: 1999 * time.Millisecond}, never},
			EverHeard: true, Next: at(2000),
		},
	},
	"exactly the time-out": {
		func(d *Detector) { d.Heard("cable", at(0)) }, 2000,
		View{
			Links:     []LinkView{{Name: "cable", Ever: true, Silent: true, Age: detectorTimeout}, never},
			EverHeard: true, AllSilent: true,
		},
	},
	"next is the first of two": {
		func(d *Detector) { d.Heard("cable", at(500)); d.Heard("lan", at(100)) }, 600,
		View{
			Links: []LinkView{
				{Name: "cable", Ever: true, Heard: true, Age: 100 * time.Millisecond},
				{Name: "lan", Ever: true, Heard: true, Age: 500 * time.Millisecond},
			},
			EverHeard: true, Next: at(2100),
		},
	},
	"one of two silent": {
		func(d *Detector) { d.Heard("cable", at(2000)); d.Heard("lan", at(0)) }, 3000,
		View{
			Links: []LinkView{
				{Name: "cable", Ever: true, Heard: true, Age: time.Second},
				{Name: "lan", Ever: true, Silent: true, Age: 3 * time.Second},
			},
			EverHeard: true, Next: at(4000),
		},
	},
	"forgetting counts from zero": {
		func(d *Detector) { d.Heard("cable", at(0)); d.Forget(at(9000)) }, 9500,
		View{
			Links:     []LinkView{{Name: "cable", Ever: true, Age: 500 * time.Millisecond}, never},
			EverHeard: true, Next: at(11000),
		},
	},
	"silence after forgetting": {
		func(d *Detector) { d.Heard("cable", at(0)); d.Forget(at(9000)) }, 11000,
		View{
			Links:     []LinkView{{Name: "cable", Ever: true, Silent: true, Age: detectorTimeout}, never},
			EverHeard: true, AllSilent: true,
		},
	},
	"proof after forgetting": {
		func(d *Detector) { d.Heard("cable", at(0)); d.Forget(at(9000)); d.Heard("cable", at(9001)) }, 9001,
		View{
			Links:     []LinkView{{Name: "cable", Ever: true, Heard: true}, never},
			EverHeard: true, Next: at(11001),
		},
	},
	"time does not run backwards": {
		func(d *Detector) { d.Heard("cable", at(1000)); d.Heard("cable", at(0)); d.Forget(at(500)) }, 900,
		View{
			Links:     []LinkView{{Name: "cable", Ever: true}, never},
			EverHeard: true, Next: at(3000),
		},
	},
	"unknown link": {
		func(d *Detector) { d.Heard("other", at(0)) }, 0,
		View{Links: []LinkView{{Name: "cable", Silent: true}, never}, AllSilent: true},
	},
}

func TestDetector(t *testing.T) {
	for name, tt := range detectorTests {
		t.Run(name, func(t *testing.T) {
			d := NewDetector([]string{"cable", "lan"}, detectorTimeout)
			tt.do(d)
			if diff := cmp.Diff(tt.want, d.View(at(tt.at))); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// TestDetectorNextIsExact moves from Next to Next: the view must differ there, and not an instant earlier.
func TestDetectorNextIsExact(t *testing.T) {
	d := NewDetector([]string{"a", "b", "c"}, time.Second)
	now := time.Unix(1000, 0)
	for n, l := range []string{"a", "b", "c"} {
		d.Heard(l, now.Add(time.Duration(n)*time.Millisecond))
	}
	now = now.Add(2 * time.Millisecond)
	for steps := 0; ; steps++ {
		v := d.View(now)
		if n := d.Next(now); !n.Equal(v.Next) {
			t.Fatalf("Next is %v, and %v in the View", n, v.Next)
		}
		if v.Next.IsZero() {
			if steps != 3 || !v.AllSilent {
				t.Fatalf("%d changes, all silent %v: want 3 and true", steps, v.AllSilent)
			}
			return
		}
		silent := func(v View) (n int) {
			for _, l := range v.Links {
				if l.Silent {
					n++
				}
			}
			return n
		}
		if silent(d.View(v.Next.Add(-1))) != silent(v) || silent(d.View(v.Next)) != silent(v)+1 {
			t.Fatalf("Next %v is not the moment of the change", v.Next)
		}
		now = v.Next
	}
}
