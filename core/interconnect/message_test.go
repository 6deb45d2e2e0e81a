package interconnect

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func body(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7)
	}
	return b
}

func TestReassembly(t *testing.T) {
	for _, n := range []int{0, 1, 23, 24, 25, 48, 1000, MaxMessage} {
		for _, size := range []int{24, 1163} {
			fs := fragments(Message{Kind: 3, Body: body(n)}, 1, size)
			rng := rand.New(rand.NewPCG(1, uint64(n)))
			rng.Shuffle(len(fs), func(i, j int) { fs[i], fs[j] = fs[j], fs[i] })
			var r reassembly
			var got []Message
			for _, f := range append(fs, fs...) { // each comes twice
				m, whole, err := r.add(&f)
				if err != nil {
					t.Fatal(err)
				}
				if whole {
					got = append(got, m)
				}
			}
			if len(got) != 1 || got[0].Kind != 3 || !bytes.Equal(got[0].Body, body(n)) {
				t.Errorf("%d bytes in pieces of %d: delivered %d times", n, size, len(got))
			}
			if len(r.partial) != 0 {
				t.Errorf("%d bytes in pieces of %d: %d messages left over", n, size, len(r.partial))
			}
		}
	}
}

func TestReassemblyRefuses(t *testing.T) {
	data := []byte("xy")
	for name, f := range map[string]fragment{
		"no kind":         {id: 1, total: 2, data: data},
		"beyond the end":  {kind: 1, id: 1, offset: 1, total: 2, data: data},
		"too long":        {kind: 1, id: 1, total: MaxMessage + 1, data: data},
		"no data":         {kind: 1, id: 1, total: 2},
		"another kind":    {kind: 2, id: 9, total: 4, data: data},
		"another length":  {kind: 1, id: 9, total: 5, data: data},
		"offset past all": {kind: 1, id: 1, offset: 65535, total: 2, data: data},
	} {
		var r reassembly
		if _, _, err := r.add(&fragment{kind: 1, id: 9, total: 4, data: data}); err != nil {
			t.Fatal(err)
		}
		if _, whole, err := r.add(&f); err == nil || whole {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestReassemblyIsBounded(t *testing.T) {
	var r reassembly
	for id := uint32(1); id <= 100; id++ {
		if _, _, err := r.add(&fragment{kind: 1, id: id, total: MaxMessage, data: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		if len(r.partial) > maxPartial {
			t.Fatalf("%d incomplete messages are kept, at most %d", len(r.partial), maxPartial)
		}
	}
}

func TestDeliveredOnce(t *testing.T) {
	var r reassembly
	whole := func(id uint32) bool {
		_, w, err := r.add(&fragment{kind: 1, id: id})
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	steps := []struct {
		id   uint32
		want bool
	}{
		{0, false}, {2, true}, {1, true}, {1, false}, {2, false}, {1000, true}, {999, true}, {999, false}, {3, true},
		{1024, true}, {4, true}, {2, false}, {5000, true}, {1000, false}, {3977, true}, {3976, false}, {3977, false},
		{1<<32 - 1, true}, {5000, false}, {1<<32 - 1024, true}, {1<<32 - 1025, false},
	}
	for n, s := range steps {
		if got := whole(s.id); got != s.want {
			t.Errorf("step %d, message %d: delivered %v, want %v", n, s.id, got, s.want)
		}
	}
}

// FuzzReassembly checks that whatever comes out was put in byte by byte, and that memory is bounded.
func FuzzReassembly(f *testing.F) {
	f.Add([]byte{1, 0, 3, 3, 'a', 'b', 'c'})
	f.Add([]byte{1, 0, 4, 2, 'a', 'b', 1, 2, 4, 2, 'c', 'd'})
	f.Add([]byte{1, 2, 4, 2, 'c', 'd', 1, 1, 4, 2, 'x', 'y', 1, 0, 4, 1, 'z'})
	f.Fuzz(func(t *testing.T, in []byte) {
		var r reassembly
		type key struct {
			id uint32
			at int
		}
		put := map[key]map[byte]bool{}
		for len(in) >= 4 {
			n := min(int(in[3]), len(in)-4)
			fr := fragment{kind: 1, id: uint32(in[0]), offset: uint16(in[1]), total: uint16(in[2]), data: in[4 : 4+n]}
			in = in[4+n:]
			for i, b := range fr.data {
				k := key{fr.id, int(fr.offset) + i}
				if put[k] == nil {
					put[k] = map[byte]bool{}
				}
				put[k][b] = true
			}
			m, whole, err := r.add(&fr)
			if whole && err == nil {
				for i, b := range m.Body {
					if !put[key{fr.id, i}][b] {
						t.Fatalf("byte %d of message %d was never sent", i, fr.id)
					}
				}
			}
			if len(r.partial) > maxPartial {
				t.Fatal("too many incomplete messages")
			}
		}
	})
}
