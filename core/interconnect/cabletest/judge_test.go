package cabletest

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math"
	"testing"
)

func TestVerdict(t *testing.T) {
	for name, tt := range map[string]struct {
		f    facts
		want Verdict
	}{
		"nothing":                  {facts{}, Silent},
		"a glitch of the plug":     {facts{bytes: 5, bad: 2}, Silent},
		"bytes without sense":      {facts{bytes: 3000, bad: 80}, WrongSpeed},
		"itself":                   {facts{bytes: 3000, own: 90}, Loopback},
		"itself and little else":   {facts{bytes: 3000, own: 90, heard: 2}, Loopback},
		"an echo of the far end's": {facts{bytes: 3000, own: 1, heard: 90, hearsUs: true, farHeard: 90}, Good},
		"not heard there":          {facts{bytes: 3000, heard: 90}, OneWay},
		"only noise heard there":   {facts{bytes: 3000, heard: 90, farNoise: true}, Noise},
		"good":                     {facts{bytes: 3000, heard: 90, hearsUs: true, farHeard: 88}, Good},
		"one joined in its middle": {facts{bytes: 3000, heard: 90, bad: 1, hearsUs: true, farHeard: 88, farBad: 1}, Good},
		"noise here":               {facts{bytes: 3000, heard: 90, bad: 5, hearsUs: true, farHeard: 88}, Noise},
		"noise there":              {facts{bytes: 3000, heard: 90, hearsUs: true, farHeard: 88, farBad: 5}, Noise},
		"few among many":           {facts{bytes: 9e5, heard: 9000, bad: 5, hearsUs: true, farHeard: 9000}, Good},
		"noise and three wires":    {facts{bytes: 3000, heard: 90, bad: 9, hearsUs: true, lines: LinesThreeWire}, Noise},
		"three wires":              {facts{bytes: 3000, heard: 90, hearsUs: true, lines: LinesThreeWire}, ThreeWire},
		"looped":                   {facts{bytes: 3000, heard: 90, hearsUs: true, lines: LinesLooped}, ThreeWire},
		"held":                     {facts{bytes: 3000, heard: 90, hearsUs: true, lines: LinesHeld}, ThreeWire},
		"no lines":                 {facts{bytes: 3000, heard: 90, hearsUs: true, lines: LinesNone}, Good},
		"lines not seen enough":    {facts{bytes: 3000, heard: 90, hearsUs: true, lines: LinesUnknown}, Good},
	} {
		if got := tt.f.verdict(); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
		if what, next := tt.want.text(); what == "" || next == "" && tt.want != Good {
			t.Errorf("%s has no text or no next step", tt.want)
		}
	}
}

func TestErrorRate(t *testing.T) {
	for _, rate := range []float64{1e-5, 1e-4, 1e-3, 1e-2} {
		whole := math.Pow(1-rate, probeWire*8)
		const n = 1e7
		got := errorRate(uint64(n*whole), uint64(n*(1-whole)))
		if got < rate*0.99 || got > rate*1.01 {
			t.Errorf("%.2e, want %.2e", got, rate)
		}
	}
	if errorRate(0, 0) != 0 || errorRate(100, 0) != 0 || errorRate(0, 100) > 1 {
		t.Error("without errors, or without anything whole")
	}
}

func TestProbe(t *testing.T) {
	s := &tester{id: 0x01020304, farID: 0x0a0b0c0d, done: true}
	s.f.heard, s.f.bad = 70000, 9
	b := s.next(true)
	p, ok := parse(b)
	want := probe{id: 0x01020304, number: 1, hears: 0x0a0b0c0d, heard: 70000, bad: 9, flags: flagDone | flagLines | flagNoise}
	if !ok || p != want || len(b) != probeLen {
		t.Errorf("%+v, %v, want %+v", p, ok, want)
	}
	for bit := range len(b) * 8 {
		b[bit/8] ^= 1 << (bit % 8)
		if _, ok := parse(b); ok {
			t.Errorf("taken with bit %d turned", bit)
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
}

func FuzzProbe(f *testing.F) {
	f.Add([]byte{})
	f.Add((&tester{id: 1}).next(false))
	f.Fuzz(func(t *testing.T, b []byte) {
		check := func(b []byte) {
			p, ok := parse(b)
			if !ok {
				return
			}
			again := []byte{probeMagic}
			for _, v := range []uint32{p.id, p.number, p.hears, p.heard, p.bad} {
				again = binary.BigEndian.AppendUint32(again, v)
			}
			if again = append(again, p.flags); !bytes.Equal(again, b[:len(b)-4]) {
				t.Fatalf("% x was read as % x", b, again)
			}
		}
		check(b)
		check(binary.BigEndian.AppendUint32(bytes.Clone(b), crc32.Checksum(b, castagnoli))) // beyond the checksum
	})
}
