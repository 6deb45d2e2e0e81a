package failover_test

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/orscore/ors/core/failover"
)

// FuzzStep feeds one server any events whatever: Step never panics, never changes the state that it was given,
// answers the same twice, keeps its numbers from running backwards, and asks for nothing without a deadline.
func FuzzStep(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed, []byte("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))
	}
	f.Fuzz(func(t *testing.T, seed uint64, script []byte) {
		r := rand.New(rand.NewPCG(seed, 5))
		layout := layouts[r.IntN(len(layouts))]
		p := pairParams(failover.Server(1+r.IntN(2)), layout, failover.Tick(r.IntN(2)*8_000))
		s := failover.New(&p, failover.Hard{Promised: uint32(r.IntN(4)), Common: uint32(r.IntN(3))}, 0)
		for _, b := range script {
			e := anyEvent(r, &p, &s, b)
			before := deepCopy(s)
			next, actions := failover.Step(&p, s, e)
			if !reflect.DeepEqual(before, s) {
				t.Fatalf("%v changed the state that Step was given", e.Kind)
			}
			again, actions2 := failover.Step(&p, s, e)
			if !reflect.DeepEqual(next, again) || !reflect.DeepEqual(actions, actions2) {
				t.Fatalf("%v gave two different answers", e.Kind)
			}
			checkStep(t, &p, &s, &next, actions)
			s = next
		}
	})
}

func checkStep(t *testing.T, p *failover.Params, s, next *failover.State, actions []failover.Action) {
	if next.Now < s.Now || next.Op < s.Op || next.Hard.Promised < s.Hard.Promised || next.Hard.Common < s.Hard.Common {
		t.Fatalf("something runs backwards: %+v then %+v", s.Hard, next.Hard)
	}
	if next.Hard.Common > next.Hard.Promised && s.Hard.Common <= s.Hard.Promised {
		t.Fatalf("common %d without promise %d", next.Hard.Common, next.Hard.Promised)
	}
	if at := failover.Next(p, next); at <= next.Now {
		t.Fatalf("the next moment %d is not after now %d", at, next.Now)
	}
	for _, a := range actions {
		switch a.Kind {
		case failover.Note, failover.Tell, failover.MoveEnded:
			continue
		}
		if a.Op == 0 || a.Op > next.Op {
			t.Fatalf("%v has operation %d of %d", a.Kind, a.Op, next.Op)
		}
		if a.Deadline <= next.Now || a.Deadline == failover.Never {
			t.Fatalf("%v has deadline %d at %d", a.Kind, a.Deadline, next.Now)
		}
		for _, k := range a.Swaps {
			if k.New.N != k.Old.N+1 || k.New.Owner != p.Self && k.New.Owner != failover.Nobody || k.New.Tag < k.Old.Tag {
				t.Fatalf("%v swaps %v for %v", a.Kind, k.Old, k.New)
			}
			if a.Kind == failover.Release != (k.New.Owner == failover.Nobody) {
				t.Fatalf("%v swaps %v for %v", a.Kind, k.Old, k.New)
			}
			if next.Hard.Units[k.Unit].Asked < k.New.N && a.Kind != failover.Release {
				t.Fatalf("%v asks for epoch %d, which the hard state does not hold", a.Kind, k.New.N)
			}
		}
	}
}

// anyEvent is a random event that more often than not fits the state: answers carry the operations that are waited
// for.
func anyEvent(r *rand.Rand, p *failover.Params, s *failover.State, b byte) failover.Event {
	unit := r.IntN(len(p.Units))
	g := r.IntN(len(p.Groups))
	e := failover.Event{
		Kind: failover.EventKind(int(b) % int(failover.ReadyNo+1)), Group: g, Unit: unit,
		At:   s.Now + failover.Tick(r.IntN(3)*r.IntN(3_000)) - 5,
		Move: uint64(r.IntN(3)), Word: failover.Word(r.IntN(8)), Text: "x",
		Key: failover.Key{Owner: failover.Server(r.IntN(3)), N: s.Units[unit].Key.N + uint32(r.IntN(3)),
			Tag: s.Units[unit].Key.Tag + uint32(r.IntN(8)/7), By: failover.Server(r.IntN(3))},
		Beat: failover.Beat{HearsUs: r.IntN(4) > 0, Leaving: r.IntN(40) == 0,
			Restarting: failover.Tick(r.IntN(20)/19) * 5_000,
			Losses:     uint8(r.IntN(10) / 9), Promised: s.Hard.Promised + uint32(r.IntN(10)/9), Common: s.Hard.Promised,
			HeldUnit: r.IntN(5) - 1, Held: uint32(r.IntN(4))},
	}
	if int(b) >= 2*int(failover.ReadyNo) { // most often what keeps things going
		e.Kind = []failover.EventKind{failover.UnitRead, failover.Heard, failover.Seen, failover.Passed}[r.IntN(4)]
	}
	for range nLinks {
		silent := r.IntN(5) == 0
		e.Evidence.Links = append(e.Evidence.Links, failover.LinkEvidence{Silent: silent, Ever: r.IntN(9) > 0})
	}
	e.Evidence.Network, e.Evidence.Lines = failover.Answer(r.IntN(3)), failover.Answer(r.IntN(3))
	switch e.Kind {
	case failover.UnitRead, failover.UnitMute:
		e.Op = s.Units[unit].ReadOp
	case failover.Swapped:
		e.Op = s.Units[unit].SwapOp
	case failover.DiskAnswered, failover.DiskSilent:
		e.Op = s.Groups[g].DiskOp
	case failover.ReadyYes, failover.ReadyNo:
		e.Op = s.Groups[g].Move.Op
	default:
		e.Op = s.Groups[g].Op
	}
	if r.IntN(10) == 0 {
		e.Op = uint64(r.IntN(1 + int(s.Op)))
	}
	return e
}

// deepCopy copies a state without the help of the package.
func deepCopy(s failover.State) failover.State {
	c := s
	c.Hard.Units = append([]failover.HardUnit(nil), s.Hard.Units...)
	c.Partner.Held = append([]uint32(nil), s.Partner.Held...)
	if s.Partner.Evidence.Links != nil {
		c.Partner.Evidence.Links = append([]failover.LinkEvidence{}, s.Partner.Evidence.Links...)
	}
	c.Units = append([]failover.Unit(nil), s.Units...)
	c.Groups = append([]failover.Group(nil), s.Groups...)
	return c
}

// BenchmarkStep is one beat in a quiet pair: what a server does five times a second for each link.
func BenchmarkStep(b *testing.B) {
	w := newWorld(1, layouts[0], 0)
	w.s[0].boot()
	w.s[1].boot()
	if !w.run(20_000, w.settled) {
		b.Fatal("not settled")
	}
	s := w.s[0].st
	e := failover.Event{Kind: failover.Heard, At: s.Now, Beat: s.Partner.Beat}
	b.ReportAllocs()
	for b.Loop() {
		failover.Step(&w.s[0].p, s, e)
	}
}
