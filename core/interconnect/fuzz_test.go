package interconnect

import (
	"bytes"
	"testing"
	"time"
)

// FuzzReceive feeds an endpoint that has a session with whatever frames, some of them made right with the pair's own
// keys, and wants it to survive them, to keep its memory bounded, and to go on with its partner
// when none of them was made with the session's key.
//
// The input is a row of frames, each after its link, what is done to it, and its length: 0 as it is, 1 with a right
// checksum, 2 with the session's tag, 3 with the tag of hellos.
func FuzzReceive(f *testing.F) {
	f.Add([]byte{0, 0, 2, 0x12, 0x80, 1, 1, 1, 0})
	f.Add([]byte{0, 2, 43, 0x22, 0x80})
	f.Fuzz(func(t *testing.T, in []byte) {
		p := newEndpoints(t, func(o *EndpointOptions) { o.Rand = seeded(1000 + uint64(o.Self)) }) // no recorded session
		p.pass(2)
		e := p.ends[1]
		live, insider := e.shake.live, false
		for len(in) >= 3 {
			link, how, n := int(in[0]%2), in[1]%4, min(int(in[2]), len(in)-3)
			frame := bytes.Clone(in[3 : 3+n])
			in = in[3+n:]
			switch how {
			case 1:
				frame = seal(frame, 0, newMAC([]byte("no key of the pair")))
			case 2:
				frame, insider = seal(frame, 0, live.use().mac), true
			case 3:
				frame = seal(frame, 0, e.shake.keys[0].hello)
			}
			p.now = p.now.Add(time.Millisecond)
			r := e.Receive(link, frame, p.now)
			for _, ev := range r.Events {
				proven := how >= 2
				if !proven && ev.Kind != Refused {
					t.Fatalf("%+v of a frame that proves nothing", ev)
				}
			}
			if len(e.pieces.partial) > maxPartial || len(e.refusals) > 2*32 {
				t.Fatal("memory is not bounded")
			}
		}
		p.told = [3][]Event{}
		p.pass(40)
		if insider { // whoever has the session's key can speak for the partner
			return
		}
		if p.count(1, kind(BeatHeard)) == 0 || p.count(2, kind(BeatHeard)) == 0 {
			t.Fatal("the two do not find each other any more")
		}
	})
}
