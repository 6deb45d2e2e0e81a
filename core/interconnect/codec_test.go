package interconnect

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/orscore/ors/internal/cobs"
)

var update = flag.Bool("update", false, "write the golden files anew")

var compare = cmp.AllowUnexported(header{}, hello{}, beatFrame{}, fragment{})

func goldenHello(newest uint8) hello { // always in the oldest version
	h := hello{header: header{1, typeHello, 2, 1}, newest: newest, boot: 0x01020304, incarnation: 0x0506}
	for n := range nonceLen {
		h.nonce[n], h.echo[n] = byte(0x10+n), byte(0x80+n)
	}
	return h
}

func goldenBeat(v uint8) beatFrame {
	b := beatFrame{
		header: header{v, typeBeat, 1, 0}, session: 0xabcd, seq: 0x01020304, ack: 0x050607, hold: 100 * time.Millisecond,
		Beat: Beat{
			Boot: 0x11121314, Incarnation: 0x1516, HearsYou: true, Restarting: 90 * time.Second, Maintenance: true,
			Losses: 0x17, Promised: 0x21222324, Common: 0x25262728, HeldUnit: 3, Held: 0x31323334, Config: 0x41424344,
		},
	}
	if v > 1 {
		b.prefers, b.said, b.Boot, b.Incarnation = 0x51525354, 0x5556, 0, 0
	}
	return b
}

func goldenFragment(v uint8) fragment {
	return fragment{
		header: header{v, typeFragment, 2, 3}, kind: 9, session: 0xabcd, seq: 5, id: 6, offset: 24, total: 29,
		data: []byte("hello"),
	}
}

// TestGoldenFrames reads and writes the frames of every version that is spoken: those of the release before, too. They
// stay as they are.
func TestGoldenFrames(t *testing.T) {
	for v := uint8(oldest); v <= version; v++ {
		t.Run(fmt.Sprint(v), func(t *testing.T) { testGoldenFrames(t, v) })
	}
}

func testGoldenFrames(t *testing.T, v uint8) {
	mac := newMAC(bytes.Repeat([]byte{0x5a}, 32))
	h, b, f := goldenHello(v), goldenBeat(v), goldenFragment(v)
	frames := []struct {
		name  string
		frame []byte
	}{
		{"hello", appendHello(nil, &h, mac)}, {"beat", appendBeat(nil, &b, mac)}, {"fragment", appendFragment(nil, &f, mac)},
	}
	var text strings.Builder
	for _, fr := range frames {
		fmt.Fprintf(&text, "%s frame %s\n%s serial %s\n", fr.name, hex.EncodeToString(fr.frame), fr.name,
			hex.EncodeToString(cobs.AppendFrame(nil, fr.frame)))
	}
	path := filepath.Join("testdata", fmt.Sprintf("frames-v%d.golden", v))
	if *update && v == version {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text.String()); diff != "" {
		t.Errorf("-golden +got\n%s", diff)
	}
	parsed := map[string]func(header, []byte) any{
		"hello":    func(h header, f []byte) any { return parseHello(h, f) },
		"beat":     func(h header, f []byte) any { return parseBeat(h, f) },
		"fragment": func(h header, f []byte) any { return parseFragment(h, f) },
	}
	wanted := map[string]any{"hello": h, "beat": b, "fragment": f}
	for line := range strings.Lines(string(want)) {
		words := strings.Fields(line)
		if words[1] != "frame" {
			continue
		}
		raw, err := hex.DecodeString(words[2])
		if err != nil {
			t.Fatal(err)
		}
		hd, err := parseHeader(raw)
		if err != nil || !authentic(raw, mac) {
			t.Errorf("%s: %v, authentic %v", words[0], err, authentic(raw, mac))
			continue
		}
		if diff := cmp.Diff(wanted[words[0]], parsed[words[0]](hd, raw), compare); diff != "" {
			t.Errorf("%s: -want +got\n%s", words[0], diff)
		}
	}
}

// TestEveryBeatFits proves MaxBeatWire, and that every beat comes out as it went in.
func TestEveryBeatFits(t *testing.T) {
	mac := newMAC([]byte("key"))
	rapid.Check(t, func(t *rapid.T) {
		u32 := func(name string) uint32 { return rapid.Uint32().Draw(t, name) }
		v := rapid.Uint8Range(oldest, version).Draw(t, "version")
		b := beatFrame{
			header:  header{v, typeBeat, rapid.Uint8Range(1, 2).Draw(t, "sender"), rapid.Uint8Range(0, 63).Draw(t, "link")},
			session: rapid.Uint16().Draw(t, "session"), seq: u32("seq"), ack: u32("ack") & maxUint24,
			hold: time.Duration(u32("hold")&maxUint24) * holdUnit,
			Beat: Beat{
				HearsYou: rapid.Bool().Draw(t, "hears"),
				Leaving:  rapid.Bool().Draw(t, "leaving"), Maintenance: rapid.Bool().Draw(t, "maintenance"),
				Restarting: time.Duration(rapid.Uint16().Draw(t, "restarting")) * time.Second,
				Losses:     rapid.Uint8().Draw(t, "losses"),
				Promised:   u32("promised"), Common: u32("common"), HeldUnit: rapid.Uint8().Draw(t, "unit"), Held: u32("held"),
				Config: u32("config"),
			},
		}
		if v == 1 {
			b.Boot, b.Incarnation = u32("boot"), rapid.Uint16().Draw(t, "incarnation")
		} else {
			b.prefers, b.said = u32("prefers"), rapid.Uint16().Draw(t, "said")
		}
		frame := appendBeat(nil, &b, mac)
		if n := len(cobs.AppendFrame(nil, frame)); n > MaxBeatWire {
			t.Fatalf("%d bytes on the wire, at most %d", n, MaxBeatWire)
		}
		h, err := parseHeader(frame)
		if err != nil || !authentic(frame, mac) {
			t.Fatalf("%v, authentic %v", err, authentic(frame, mac))
		}
		if diff := cmp.Diff(b, parseBeat(h, frame), compare); diff != "" {
			t.Fatalf("-sent +received\n%s", diff)
		}
	})
}

func TestWireLengths(t *testing.T) {
	mac := newMAC([]byte("key"))
	h, b := goldenHello(version), goldenBeat(version)
	f := goldenFragment(version)
	f.data = make([]byte, maxSerialFrame-fragmentLen-trailerLen)
	for name, frame := range map[string][]byte{
		"hello": appendHello(nil, &h, mac), "beat": appendBeat(nil, &b, mac), "fragment": appendFragment(nil, &f, mac),
	} {
		if n := cobs.WireLen(len(frame)); n != MaxBeatWire {
			t.Errorf("%s takes up to %d bytes on a serial line, want %d", name, n, MaxBeatWire)
		}
	}
}

func TestRestartingRoundsUp(t *testing.T) {
	mac := newMAC([]byte("key"))
	for in, want := range map[time.Duration]time.Duration{
		0: 0, -time.Second: 0, time.Millisecond: time.Second, time.Second: time.Second,
		1001 * time.Millisecond: 2 * time.Second,
		100 * time.Hour:         65535 * time.Second,
	} {
		b := goldenBeat(version)
		b.Restarting = in
		frame := appendBeat(nil, &b, mac)
		h, err := parseHeader(frame)
		if err != nil {
			t.Fatal(err)
		}
		if got := parseBeat(h, frame).Restarting; got != want {
			t.Errorf("%v arrives as %v, want %v", in, got, want)
		}
	}
}

// TestUnknownFlagsAreIgnored is the rule by which the release before and the one after may add flags.
func TestUnknownFlagsAreIgnored(t *testing.T) {
	mac := newMAC([]byte("key"))
	b := goldenBeat(version)
	frame := appendBeat(nil, &b, mac)[:beatLen]
	frame[2] |= 0xf8
	frame = seal(frame, 0, mac)
	h, err := parseHeader(frame)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b, parseBeat(h, frame), compare); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestBeatShare(t *testing.T) {
	for _, tt := range []struct {
		baud     int
		interval time.Duration
		want     string
	}{
		{115200, 200 * time.Millisecond, "0.028"}, {9600, 200 * time.Millisecond, "0.333"},
		{9600, 20 * time.Millisecond, "3.333"},
		{0, time.Second, "1.000"}, {9600, 0, "1.000"},
	} {
		if got := fmt.Sprintf("%.3f", BeatShare(tt.baud, tt.interval)); got != tt.want {
			t.Errorf("%d baud, %v: %s, want %s", tt.baud, tt.interval, got, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	mac := newMAC([]byte("key"))
	h, b, fr := goldenHello(version), goldenBeat(version), goldenFragment(version)
	for _, seed := range [][]byte{
		nil, {0}, appendHello(nil, &h, mac), appendBeat(nil, &b, mac), appendFragment(nil, &fr, mac),
	} {
		f.Add(seed)
	}
	old := goldenBeat(oldest)
	f.Add(appendBeat(nil, &old, mac))
	f.Fuzz(func(t *testing.T, data []byte) {
		check := func(frame []byte) {
			h, err := parseHeader(frame)
			if err != nil {
				return
			}
			authentic(frame, mac)
			switch h.kind {
			case typeHello:
				v := parseHello(h, frame)
				if again := appendHello(nil, &v, mac); !bytes.Equal(again[:helloLen], frame[:helloLen]) {
					t.Fatalf("hello % x encodes as % x", frame, again)
				}
			case typeBeat:
				v := parseBeat(h, frame)
				again := appendBeat(nil, &v, mac)
				again[2] = frame[2]
				if !bytes.Equal(again[:beatLen], frame[:beatLen]) {
					t.Fatalf("beat % x encodes as % x", frame, again)
				}
			case typeFragment:
				v := parseFragment(h, frame)
				var r reassembly
				_, _, _ = r.add(&v)
			}
		}
		check(data)
		if len(data) <= 2000 {
			check(seal(bytes.Clone(data), 0, mac)) // beyond the checksum
		}
	})
}

func BenchmarkEncodeBeat(b *testing.B) {
	mac := newMAC(bytes.Repeat([]byte{1}, 32))
	beat, buf := goldenBeat(version), make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		buf = appendBeat(buf[:0], &beat, mac)
	}
}

func BenchmarkDecodeBeat(b *testing.B) {
	mac := newMAC(bytes.Repeat([]byte{1}, 32))
	beat := goldenBeat(version)
	frame := appendBeat(nil, &beat, mac)
	b.ReportAllocs()
	for b.Loop() {
		h, err := parseHeader(frame)
		if err != nil || !authentic(frame, mac) {
			b.Fatal(err)
		}
		_ = parseBeat(h, frame)
	}
}
