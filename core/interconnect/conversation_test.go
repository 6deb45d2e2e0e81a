package interconnect

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// line is one frame of a recorded conversation.
type line struct {
	at    time.Duration // since the conversation began
	from  uint8
	link  int
	frame []byte
}

// converse has two endpoints that speak at most a version open a session, exchange beats and messages, and leave, and
// returns every frame in order.
func converse(t *testing.T, newest uint8) []line {
	t.Helper()
	p := newEndpoints(t, func(o *EndpointOptions) { o.MaxVersion = newest })
	began := p.now
	var lines []line
	p.heard = func(to uint8, link int, frame []byte) {
		lines = append(lines, line{p.now.Sub(began), 3 - to, link, bytes.Clone(frame)})
	}
	p.pass(2)
	p.ends[1].SetBeat(Beat{HearsYou: true, Promised: 4, Common: 3, Losses: 2, HeldUnit: 1, Held: 77, Config: 5})
	p.ends[2].SetBeat(Beat{HearsYou: true, Promised: 4, Common: 4, Restarting: 8 * time.Second, Maintenance: true})
	p.pass(2)
	for _, s := range []uint8{1, 2} {
		for link := range 2 {
			frames, err := p.ends[s].Fragments(Message{Kind: 10 + s, Body: body(100)}, link)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range frames {
				p.give(3-s, link, f)
			}
		}
	}
	if err := p.ends[2].Leave(); err != nil {
		t.Fatal(err)
	}
	p.pass(2)
	return lines
}

func conversationFile(v uint8) string {
	return filepath.Join("testdata", fmt.Sprintf("conversation-v%d.golden", v))
}

func readConversation(t *testing.T, v uint8) []line {
	t.Helper()
	raw, err := os.ReadFile(conversationFile(v))
	if err != nil {
		t.Fatal(err)
	}
	var lines []line
	for text := range strings.Lines(string(raw)) {
		if strings.HasPrefix(text, "#") {
			continue
		}
		var ms int64
		var l line
		var digits string
		if _, err := fmt.Sscan(text, &ms, &l.from, &l.link, &digits); err != nil {
			t.Fatal(err)
		}
		l.at = time.Duration(ms) * time.Millisecond
		if l.frame, err = hex.DecodeString(digits); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	return lines
}

// TestConversations plays one side of what two endpoints of each version have said to each other to the present
// program: it takes every frame, and answers in that version. The conversation of a version is written once, by the
// release that is the first to speak it.
func TestConversations(t *testing.T) {
	if *update {
		var b strings.Builder
		fmt.Fprintf(&b, "# Frames between two endpoints, as the release that speaks version %d has sent them: "+
			"milliseconds, server, link, frame.\n", version)
		for _, l := range converse(t, version) {
			fmt.Fprintf(&b, "%d %d %d %s\n", l.at.Milliseconds(), l.from, l.link, hex.EncodeToString(l.frame))
		}
		if err := os.WriteFile(conversationFile(version), []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for v := uint8(oldest); v <= version; v++ {
		for _, self := range []uint8{1, 2} {
			t.Run(fmt.Sprintf("version %d to server %d", v, self), func(t *testing.T) { playConversation(t, v, self) })
		}
	}
}

func playConversation(t *testing.T, v, self uint8) {
	e := newEnd(t, self, 1, nil) // of the newest version, with the random numbers of the recording
	began := time.Unix(1000, 0)
	var at time.Duration
	var beats, opened, goodbyes, messages, wantBeats, said int
	send := func(frames [][]byte) {
		for _, f := range frames {
			if h, err := parseHeader(f); err != nil || h.version != v && h.kind != typeHello {
				t.Errorf("answered in version %d: %v", h.version, err)
			}
			said++
		}
	}
	take := func(l line) {
		r := e.Receive(l.link, l.frame, began.Add(l.at))
		for _, ev := range r.Events {
			switch {
			case ev.Kind == SessionOpen && ev.PeerBoot == 0xb0070000|uint32(3-self) && ev.PeerIncarnation == 1:
				opened++
			case ev.Kind == BeatHeard && ev.Beat.Boot == 0xb0070000|uint32(3-self) && ev.Beat.Incarnation == 1:
				beats++
				if ev.Beat.Leaving {
					goodbyes++
				}
			case ev.Kind == MessageIn && ev.Message.Kind == 13-self && bytes.Equal(ev.Message.Body, body(100)):
				messages++
			default:
				t.Errorf("%+v", ev)
			}
		}
		if r.Answer != nil {
			send([][]byte{bytes.Clone(r.Answer)})
		}
	}
	for _, l := range readConversation(t, v) {
		if l.from == self {
			continue
		}
		for ; at < l.at; at += testInterval {
			for link := range 2 {
				send(e.Due(link, began.Add(at+testInterval)))
			}
		}
		if frameType(l.frame[0]&15) == typeBeat {
			wantBeats++
		}
		take(l)
	}
	if opened != 1 || beats != wantBeats || messages != 2 || self == 1 && goodbyes == 0 || said < 10 {
		t.Errorf("%d sessions, %d of %d beats, %d goodbyes, %d messages; said %d frames", opened, beats, wantBeats, goodbyes,
			messages, said)
	}
	if e.shake.live.version != v {
		t.Errorf("the session's version is %d", e.shake.live.version)
	}
}

// TestReleasesUnderstandEachOther runs a pair of which one server speaks the version before only.
func TestReleasesUnderstandEachOther(t *testing.T) {
	former := func(o *EndpointOptions) { o.MaxVersion = version - 1 }
	same := func(*EndpointOptions) {}
	for name, changes := range map[string][]func(*EndpointOptions){
		"first before": {former, same}, "second before": {same, former}, "both before": {former}, "both now": {same},
	} {
		t.Run(name, func(t *testing.T) {
			want := uint8(version)
			if name != "both now" {
				want--
			}
			p := newEndpoints(t, changes...)
			versions := map[uint8]int{}
			p.heard = func(_ uint8, _ int, frame []byte) {
				if frameType(frame[0]&15) != typeHello {
					versions[frame[0]>>4]++
				}
			}
			p.pass(5)
			p.ends[1].SetBeat(Beat{Promised: 9, HearsYou: true})
			p.pass(5)
			if len(versions) != 1 || versions[want] < 30 {
				t.Errorf("frames by version: %v, want only version %d", versions, want)
			}
			if p.count(2, func(e Event) bool { return e.Beat.Promised == 9 && e.Beat.Incarnation == 1 }) < 8 {
				t.Error("what server 1 said was not heard")
			}
			for _, s := range []uint8{1, 2} {
				if p.count(s, kind(Refused)) > 0 {
					t.Errorf("server %d refused: %+v", s, p.told[s])
				}
			}
		})
	}
}

// TestSlowerLinkTakesNothingBack delivers beats of a slow link after newer ones of a fast link.
func TestSlowerLinkTakesNothingBack(t *testing.T) {
	p := newEndpoints(t)
	p.pass(3)
	slow := bytes.Clone(p.ends[1].Due(0, p.now)[0])
	p.ends[1].SetBeat(Beat{Promised: 7, Maintenance: true, Restarting: 5 * time.Second})
	p.pass(1) // over both links
	p.told = [3][]Event{}
	late := bytes.Clone(p.ends[1].Due(1, p.now)[0])
	p.ends[1].SetBeat(Beat{Promised: 8})
	p.give(2, 0, bytes.Clone(p.ends[1].Due(0, p.now)[0]))
	p.give(2, 1, late)
	p.give(2, 0, slow)
	if n := p.count(2, kind(BeatHeard)); n != 2 {
		t.Errorf("%d beats, want 2: one was overtaken on its own link", n)
	}
	if n := p.count(2, func(e Event) bool { return e.Beat.Promised == 8 && !e.Beat.Maintenance }); n != 2 {
		t.Errorf("a slow link took back what was said since: %+v", p.told[2])
	}
}
