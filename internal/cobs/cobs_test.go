package cobs_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/orscore/ors/internal/cobs"
)

func seq(from, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte((from+i-1)%255 + 1)
	}
	return b
}

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// The examples are those of the algorithm's authors.
func TestVectors(t *testing.T) {
	for _, c := range []struct {
		name            string
		packet, encoded []byte
	}{
		{"empty", nil, []byte{1}},
		{"zero", []byte{0}, []byte{1, 1}},
		{"two zeros", []byte{0, 0}, []byte{1, 1, 1}},
		{"zero inside", []byte{0x11, 0x22, 0, 0x33}, []byte{3, 0x11, 0x22, 2, 0x33}},
		{"no zero", []byte{0x11, 0x22, 0x33, 0x44}, []byte{5, 0x11, 0x22, 0x33, 0x44}},
		{"trailing zeros", []byte{0x11, 0, 0, 0}, []byte{2, 0x11, 1, 1, 1}},
		{"254 bytes", seq(1, 254), cat([]byte{0xFF}, seq(1, 254))},
		{"zero and 254 bytes", cat([]byte{0}, seq(1, 254)), cat([]byte{1, 0xFF}, seq(1, 254))},
		{"255 bytes", seq(1, 255), cat([]byte{0xFF}, seq(1, 254), []byte{2, 0xFF})},
		{"254 bytes and zero", cat(seq(1, 254), []byte{0}), cat([]byte{0xFF}, seq(1, 254), []byte{1, 1})},
		{"253 bytes and zero", cat(seq(1, 253), []byte{0}), cat([]byte{0xFE}, seq(1, 253), []byte{1})},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := cobs.Append(nil, c.packet); !bytes.Equal(got, c.encoded) {
				t.Errorf("encoded % x, want % x", got, c.encoded)
			}
			got, err := cobs.Decode(nil, c.encoded)
			if err != nil || !bytes.Equal(got, c.packet) {
				t.Errorf("decoded % x (%v), want % x", got, err, c.packet)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, frame := range [][]byte{nil, {0}, {2}, {5, 1, 2}, {3, 0, 1}, {1, 0}} {
		got, err := cobs.Decode([]byte("kept"), frame)
		if !errors.Is(err, cobs.ErrFrame) || string(got) != "kept" {
			t.Errorf("% x: %q, %v; want the destination unchanged and ErrFrame", frame, got, err)
		}
	}
}

func TestReaderFindsFramesInNoise(t *testing.T) {
	long := cat([]byte{0}, cobs.Append(nil, seq(1, 300)), []byte{0})
	stream := cat([]byte("noise"), []byte{0, 0}, cobs.Append(nil, []byte("one")), []byte{0}, // noise ends at a delimiter
		[]byte{9, 9}, []byte{0}, long, cobs.Append(nil, []byte{0, 0}), []byte{0, 0, 0}, []byte("half"))
	r := cobs.NewReader(iotestOneByte{bytes.NewReader(stream)}, 100)
	var got []string
	for {
		p, err := r.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			break
		}
		got = append(got, string(p))
	}
	if len(got) != 2 || got[0] != "one" || got[1] != "\x00\x00" {
		t.Errorf("frames %q", got)
	}
	if r.Garbage() != 3 {
		t.Errorf("garbage %d, want 3: noise, a bad run, an overlong frame", r.Garbage())
	}
}

// iotestOneByte hands out one byte a call, as a slow line does.
type iotestOneByte struct{ r io.Reader }

func (o iotestOneByte) Read(p []byte) (int, error) { return o.r.Read(p[:1]) }

func FuzzRoundTrip(f *testing.F) {
	for _, s := range [][]byte{nil, {0}, seq(1, 254), seq(1, 255), cat(seq(1, 254), []byte{0}), seq(3, 600)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		enc := cobs.Append(nil, packet)
		if bytes.IndexByte(enc, 0) >= 0 || len(enc) > cobs.MaxEncoded(len(packet)) {
			t.Fatalf("% x encodes to % x", packet, enc)
		}
		got, err := cobs.Decode(nil, enc)
		if err != nil || !bytes.Equal(got, packet) {
			t.Fatalf("% x comes back as % x (%v)", packet, got, err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, s := range [][]byte{nil, {1}, {5, 1, 2, 3, 4}, {0}, {5, 1}, {0xFF, 1}} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		got, err := cobs.Decode(nil, frame)
		if err == nil && len(got) > len(frame) {
			t.Fatalf("% x grows to % x", frame, got)
		}
		r := cobs.NewReader(bytes.NewReader(frame), 64)
		for {
			p, err := r.Next()
			if err != nil {
				return
			}
			if len(p) > 64 {
				t.Fatal("packet over the limit")
			}
		}
	})
}
