package outbox

import (
	"fmt"
	"testing"
)

func TestOrder(t *testing.T) {
	type put struct {
		frame    string
		urgent   bool
		taken    bool
		replaced bool
	}
	tests := map[string]struct {
		puts []put
		want []string
	}{
		"beats overtake": {
			[]put{{"m1", false, true, false}, {"m2", false, true, false}, {"b1", true, true, false}},
			[]string{"b1", "m1", "m2"},
		},
		"the oldest of two beats goes": {
			[]put{{"b1", true, true, false}, {"b2", true, true, false}, {"b3", true, true, true}},
			[]string{"b2", "b3"},
		},
		"messages are bounded": {
			[]put{{"m1", false, true, false}, {"m2", false, true, false}, {"m3", false, false, false}, {"b", true, true, false}},
			[]string{"b", "m1", "m2"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			o := New(2)
			for _, p := range tt.puts {
				taken, replaced := o.Put([]byte(p.frame), p.urgent)
				if taken != p.taken || replaced != p.replaced {
					t.Errorf("%s: taken %v, replaced %v", p.frame, taken, replaced)
				}
			}
			select {
			case <-o.Wake():
			default:
				t.Error("no wake-up")
			}
			var got []string
			for f := o.Take(); f != nil; f = o.Take() {
				got = append(got, string(f))
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("taken %v, want %v", got, tt.want)
			}
		})
	}
}

func TestClear(t *testing.T) {
	o := New(2)
	o.Put([]byte("m"), false)
	o.Put([]byte("b"), true)
	if n := o.Clear(); n != 2 || o.Take() != nil {
		t.Errorf("cleared %d, want 2 and nothing left", n)
	}
}
