package rsw

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/orscore/ors/core/storage"
	"github.com/orscore/ors/internal/cobs"
)

var update = flag.Bool("update", false, "write golden files")

var (
	keyHome  = WireKey{Owner: storage.Port1, N: 41, Tag: 3, By: storage.Port3}
	keyAway  = WireKey{Owner: storage.Port3, N: 42, Tag: 0x01020304, By: storage.Port3}
	awayNow  = WireState{Key: keyAway, Position: storage.Port3, LED: storage.LEDAmber}
	requests = []struct {
		name string
		r    request
	}{
		{"inspect", request{cmd: cmdInspect, id: 0x0102030405060708, unit: "storage2"}},
		{"swap", request{cmd: cmdSwap, id: 2, unit: "storage2", old: keyHome, next: keyAway}},
		{"list", request{cmd: cmdList, id: 3, first: 16}},
	}
	answers = []struct {
		name string
		a    answer
	}{
		{"inspect ok", answer{cmd: cmdInspect, id: 0x0102030405060708, state: awayNow}},
		{"swap ok", answer{cmd: cmdSwap, id: 2, state: awayNow}},
		{"swap conflict", answer{cmd: cmdSwap, id: 2, status: statusConflict, state: awayNow}},
		{"no unit", answer{cmd: cmdInspect, id: 4, status: statusNoUnit}},
		{"bad", answer{cmd: 9, id: 5, status: statusBad, text: "malformed"}},
		{"failed", answer{cmd: cmdSwap, id: 6, status: statusFailed, text: "disk full"}},
		{"list ok", answer{cmd: cmdList, id: 7, units: []string{"storage1", "storage2"}, total: 2}},
	}
)

// unframe takes the one packet out of a frame.
func unframe(t testing.TB, frame []byte) []byte {
	t.Helper()
	p, err := cobs.NewReader(bytes.NewReader(frame), maxPacket).Next()
	if err != nil {
		t.Fatal(err)
	}
	body, ok := checked(bytes.Clone(p))
	if !ok {
		t.Fatal("wrong check")
	}
	return body
}

// The golden frames are what docs/protocols/rsw.md shows; a change of them is a new version of the protocol.
func TestGoldenFrames(t *testing.T) {
	var b strings.Builder
	line := func(name string, frame []byte) { fmt.Fprintf(&b, "%-14s %s\n", name+":", hex.EncodeToString(frame)) }
	for _, c := range requests {
		frame := c.r.encode()
		line(c.name, frame)
		got, err := decodeRequest(unframe(t, frame))
		if err != nil || got != c.r {
			t.Errorf("%s comes back as %+v, %v", c.name, got, err)
		}
	}
	for _, c := range answers {
		frame := c.a.encode()
		line(c.name, frame)
		got, err := decodeAnswer(unframe(t, frame))
		want := c.a
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(answer{})); err != nil || (diff != "" &&
			c.a.status == statusOK && c.a.cmd != cmdList) {
			t.Errorf("%s: %v %s", c.name, err, diff)
		}
		if got.status != want.status || got.text != want.text || !cmp.Equal(got.units, want.units) ||
			got.total != want.total {
			t.Errorf("%s comes back as %+v", c.name, got)
		}
	}
	const golden = "testdata/frames.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Error(diff)
	}
	doc, err := os.ReadFile("../../../docs/protocols/rsw.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), b.String()) {
		t.Errorf("docs/protocols/rsw.md does not show these frames:\n%s", &b)
	}
}

// Every single damaged bit is noticed.
func TestCheckNoticesBits(t *testing.T) {
	p, err := cobs.NewReader(bytes.NewReader(requests[1].r.encode()), maxPacket).Next()
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(p) * 8 {
		p[i/8] ^= 1 << (i % 8)
		if _, ok := checked(p); ok {
			t.Errorf("bit %d", i)
		}
		p[i/8] ^= 1 << (i % 8)
	}
}

func TestListIsSplit(t *testing.T) {
	a := answer{cmd: cmdList, total: 40}
	for i := range 40 {
		a.units = append(a.units, fmt.Sprintf("a unit with quite a long name %d", i))
	}
	got, err := decodeAnswer(unframe(t, a.encode()))
	if err != nil || got.total != 40 || len(got.units) == 0 || len(got.units) >= 40 {
		t.Errorf("%d of %d units, %v", len(got.units), got.total, err)
	}
}

// FuzzAnswers feeds what may come over a line, and, with bare, packets whose frame and check were good: whatever is
// understood says the same when it is encoded again, and nothing else does any harm.
func FuzzAnswers(f *testing.F) {
	for _, c := range requests {
		f.Add(unframe(f, c.r.encode()), true)
		f.Add(c.r.encode(), false)
	}
	for _, c := range answers {
		f.Add(unframe(f, c.a.encode()), true)
		f.Add(c.a.encode(), false)
	}
	f.Add([]byte{protocolVersion, byte(cmdSwap), 0, 0, 0, 0, 0, 0, 0, 1, 255}, true)
	f.Add([]byte{protocolVersion, byte(cmdInspect | answerBit), 0, 0, 0, 0, 0, 0, 0, 1, 0, 2}, true)
	f.Add([]byte("noise\x00"), false)
	f.Add(append([]byte("half"), requests[1].r.encode()[5:]...), false)
	f.Fuzz(func(t *testing.T, b []byte, bare bool) {
		if bare {
			decodeAgain(t, b)
			return
		}
		r := cobs.NewReader(bytes.NewReader(b), maxPacket)
		for {
			p, err := r.Next()
			if err != nil {
				return
			}
			if body, ok := checked(p); ok {
				decodeAgain(t, body)
			}
		}
	})
}

func decodeAgain(t *testing.T, p []byte) {
	if len(p) < headerLen || len(p)+crcLen > maxPacket {
		return // checked lets none of these through
	}
	if r, err := decodeRequest(p); err == nil {
		if got := unframe(t, r.encode()); !bytes.Equal(got, p) {
			t.Fatalf("request % x comes back as % x", p, got)
		}
	}
	if a, err := decodeAnswer(p); err == nil {
		if got := unframe(t, a.encode()); !bytes.Equal(got, p) {
			t.Fatalf("answer % x comes back as % x", p, got)
		}
	}
}
