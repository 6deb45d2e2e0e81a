package cobs

import (
	"bytes"
	"testing"
)

// TestAppendFrame pins the examples of the original paper's encoding.
func TestAppendFrame(t *testing.T) {
	ones := bytes.Repeat([]byte{1}, 254)
	tests := map[string]struct{ frame, wire []byte }{
		"zero":              {[]byte{0}, []byte{0, 1, 1, 0}},
		"two zeros":         {[]byte{0, 0}, []byte{0, 1, 1, 1, 0}},
		"zero inside":       {[]byte{0x11, 0x22, 0, 0x33}, []byte{0, 3, 0x11, 0x22, 2, 0x33, 0}},
		"no zero":           {[]byte{0x11, 0x22}, []byte{0, 3, 0x11, 0x22, 0}},
		"zero at the end":   {[]byte{0x11, 0}, []byte{0, 2, 0x11, 1, 0}},
		"254 without zeros": {ones, append(append([]byte{0, 0xff}, ones...), 0)},
		"254 and a zero":    {append(ones[:254:254], 0), append(append([]byte{0, 0xff}, ones...), 1, 1, 0)},
		"255 without zeros": {append(ones[:254:254], 1), append(append([]byte{0, 0xff}, ones...), 2, 1, 0)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			wire := AppendFrame(nil, tt.frame)
			if !bytes.Equal(wire, tt.wire) {
				t.Errorf("wire % x, want % x", wire, tt.wire)
			}
			if len(wire) > WireLen(len(tt.frame)) {
				t.Errorf("%d bytes on the wire, more than WireLen says: %d", len(wire), WireLen(len(tt.frame)))
			}
			got, err := Decode(nil, wire[1:len(wire)-1])
			if err != nil || !bytes.Equal(got, tt.frame) {
				t.Errorf("decoded % x, %v", got, err)
			}
		})
	}
}

func TestSplitterFindsTheNextFrame(t *testing.T) {
	good := AppendFrame(nil, []byte("beat"))
	tests := map[string]struct {
		before  []byte
		garbage uint64
	}{
		"nothing":             {nil, 0},
		"delimiters":          {[]byte{0, 0, 0}, 0},
		"half a frame":        {good[:3], 1},
		"the other half":      {good[3:], 1},
		"noise":               {[]byte{0xff, 0x13, 0x88, 7}, 1},
		"noise with zeros":    {[]byte{9, 0, 9, 0, 0, 200, 1}, 3},
		"too long for one":    {bytes.Repeat([]byte{1}, 5000), 1},
		"longer than max":     {AppendFrame(nil, bytes.Repeat([]byte{1}, 11)), 1},
		"long, then a zero":   {append(bytes.Repeat([]byte{1}, 5000), 0), 1},
		"code beyond the end": {[]byte{0, 5, 1, 1}, 1},
	}
	for name, tt := range tests {
		for _, step := range []int{1, 3, 1 << 20} {
			s := NewSplitter(10)
			var got [][]byte
			in := append(append([]byte{}, tt.before...), good...)
			for len(in) > 0 {
				n := min(step, len(in))
				s.Feed(in[:n], func(f []byte) { got = append(got, f) })
				in = in[n:]
			}
			if len(got) != 1 || string(got[0]) != "beat" || s.Garbage != tt.garbage {
				t.Errorf("%s, %d bytes a read: frames %q, garbage %d, want one frame and %d",
					name, step, got, s.Garbage, tt.garbage)
			}
		}
	}
}

func FuzzCOBS(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 1, 0, 0, 255})
	f.Add(bytes.Repeat([]byte{1}, 600))
	f.Add(append(bytes.Repeat([]byte{1}, 254), 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		wire := AppendFrame(nil, data)
		inner := wire[1 : len(wire)-1]
		if bytes.IndexByte(inner, 0) >= 0 || len(wire) > WireLen(len(data)) {
			t.Fatalf("bad wire % x", wire)
		}
		got, err := Decode(nil, inner)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("decoded % x, %v", got, err)
		}
		s := NewSplitter(64) // any bytes are harmless, and the next frame is found
		n := 0
		s.Feed(data, func(b []byte) {
			if len(b) == 0 || len(b) > 64 {
				t.Fatalf("frame of %d bytes", len(b))
			}
		})
		s.Feed(AppendFrame(nil, []byte("x")), func(b []byte) { n++ })
		if n == 0 {
			t.Fatal("the frame after it was not found")
		}
	})
}

func BenchmarkAppendFrame(b *testing.B) {
	frame, wire := bytes.Repeat([]byte{1, 2, 0}, 20), make([]byte, 0, 64)
	for b.Loop() {
		wire = AppendFrame(wire[:0], frame)
	}
}
