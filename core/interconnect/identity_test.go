package interconnect

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"
)

// anotherMachine is server 2 on other hardware, or started anew.
func anotherMachine(o *Options) { o.Boot = 0xc0000002 }

func code(c string) func(Event) bool {
	return func(e Event) bool { return e.Kind == Refused && e.Code == c }
}

func opened(boot uint32, incarnation uint16) func(Event) bool {
	return func(e Event) bool {
		return e.Kind == SessionOpen && e.PeerBoot == boot && e.PeerIncarnation == incarnation
	}
}

// TestSecondMachine runs two machines as server 2: the one that is heard goes on undisturbed, the other is refused
// and told of, and is the partner once the first has ended.
func TestSecondMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire("lan", "udp", 1)
		a, b := start(t, 1, 1, nil, w), start(t, 2, 1, nil, w)
		within(t, time.Second, "session", func() bool { return joined(a, b) })
		first := w.ends[2]
		live := a.session().mine
		c := start(t, 2, 7, anotherMachine, w) // its frames reach a, as b's do
		w.set(func(w *wire) { w.also = []*end{first} })
		a.forget()
		b.forget()
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if n := a.count(code(CodeSecondMachine)); n < 25 || n > 31 {
			t.Errorf("told of the second machine %d times in half a minute, want one a second", n)
		}
		if a.session().mine != live || a.count(kind(SessionOpen)) > 0 || a.count(heard(7)) > 0 || c.beats() > 0 {
			t.Error("the second machine disturbed the session, or was heard")
		}
		for _, n := range []*node{a, b} {
			if n.beats() < 290 {
				t.Errorf("server %d heard %d beats in 300 intervals", n.self, n.beats())
			}
		}
		b.stop()
		w.set(func(w *wire) { w.also = nil })
		within(t, testTimeout, "the second machine is the partner when the first has ended", func() bool {
			return joined(a, c) && a.count(opened(0xc0000002, 7)) == 1 && a.count(heard(7)) > 0
		})
		a.stop()
		c.stop()
	})
}

// TestRebootIsNoSecondMachine has the partner come back with another boot id while its last beat is fresh.
func TestRebootIsNoSecondMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire("cable", "serial", 1)
		a, b := start(t, 1, 1, nil, w), start(t, 2, 1, nil, w)
		within(t, time.Second, "session", func() bool { return joined(a, b) })
		time.Sleep(time.Second + testInterval/2)
		b.stop()
		a.forget()
		b = start(t, 2, 1, anotherMachine, w)
		within(t, testTimeout, "the restart is seen within the time-out", func() bool {
			return joined(a, b) && a.count(opened(0xc0000002, 1)) == 1
		})
		if n := a.count(code(CodeSecondMachine)); n > 0 {
			t.Errorf("a reboot was called a second machine %d times", n)
		}
		a.stop()
		b.stop()
	})
}

// TestFormerAgentsGoodbyeDoesNotCount keeps back everything that an agent said while it left, and delivers it, in
// every order and again and again, after its successor was heard.
func TestFormerAgentsGoodbyeDoesNotCount(t *testing.T) {
	for name, change := range map[string]func(*Options){"agent restarted": nil, "server restarted": anotherMachine} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, lan := newWire("cable", "serial", 1), newWire("lan", "udp", 2)
				a, b := start(t, 1, 1, nil, w, lan), start(t, 2, 1, nil, w, lan)
				within(t, time.Second, "session", func() bool { return joined(a, b) })
				from, fromLan := len(w.frames()), len(lan.frames())
				w.set(func(w *wire) { w.cut[1] = true })
				lan.set(func(w *wire) { w.cut[1] = true })
				if err := b.Goodbye(t.Context()); err == nil {
					t.Fatal("a goodbye that was kept back was acknowledged")
				}
				b.stop()
				kept, keptLan := w.frames()[from:], lan.frames()[fromLan:]
				w.set(func(w *wire) { w.cut[1] = false })
				lan.set(func(w *wire) { w.cut[1] = false })
				b = start(t, 2, 2, change, w, lan)
				within(t, 10*time.Second, "session with the successor", func() bool {
					return joined(a, b) && a.count(heard(2)) > 0
				})
				a.forget()
				for n := range 6 {
					for i := range kept {
						r := kept[i]
						if n%2 == 1 {
							r = kept[len(kept)-1-i]
						}
						if r.to == 1 {
							w.inject(1, r.frame)
						}
						synctest.Wait()
					}
					for _, r := range keptLan {
						if r.to == 1 {
							lan.inject(1, r.frame)
						}
						synctest.Wait()
					}
					time.Sleep(testInterval)
				}
				if n := a.count(func(e Event) bool { return e.Kind == BeatHeard && e.Beat.Leaving }); n > 0 {
					t.Errorf("%d goodbyes of the former agent counted", n)
				}
				if a.count(heard(1))+a.count(kind(SessionOpen)) > 0 || !joined(a, b) {
					t.Error("the former agent was heard, or disturbed the session")
				}
				a.stop()
				b.stop()
			})
		})
	}
}

// TestFormerAgentOpensNothing lets a handshake frame of an agent come late, after its successor has its session: it
// echoes a nonce that is still good, and all the same neither ends the session nor is told of.
func TestFormerAgentOpensNothing(t *testing.T) {
	p := newEndpoints(t)
	p.pass(3)
	former := p.ends[2]
	// The former agent begins anew, and its answer is kept back.
	former.shake.live = nil
	ask := bytes.Clone(former.Due(0, p.now)[0])
	answer := bytes.Clone(p.ends[1].Receive(0, ask, p.now).Answer)
	if r := former.Receive(0, answer, p.now); !r.Opened {
		t.Fatal("the former agent opened no session")
	}
	late := bytes.Clone(former.Due(0, p.now)[0])
	goodbye := func() [][]byte {
		if err := former.Leave(); err != nil {
			t.Fatal(err)
		}
		f := bytes.Clone(former.Due(0, p.now)[1])
		return [][]byte{f}
	}()
	p.ends[2] = newEnd(t, 2, 2, nil)
	p.told = [3][]Event{}
	p.pass(2)
	if p.count(1, opened(0xb0070002, 2)) != 1 {
		t.Fatalf("no session with the successor: %+v", p.told[1])
	}
	p.told = [3][]Event{}
	own, err := p.ends[1].shake.ownNonce(p.now) // used up, unless the former agent's answer is taken for another's
	if err != nil {
		t.Fatal(err)
	}
	h := parseHello(header{}, late)
	h.header, h.echo = header{oldest, typeHello, 2, 0}, own
	for _, f := range append(goodbye, late, appendHello(nil, &h, p.ends[1].shake.keys[0].hello)) {
		p.give(1, 0, f)
	}
	p.pass(5)
	if n := p.count(1, func(e Event) bool { return e.Beat.Leaving || e.Kind == SessionOpen }); n > 0 {
		t.Errorf("%d events of the former agent", n)
	}
	if n := p.count(1, heard(2)); n < 10 {
		t.Errorf("%d beats of the successor in five intervals on two links", n)
	}
	if p.count(1, code(CodeRefused)) == 0 {
		t.Error("nothing told of the former agent's frames")
	}
}

// TestBeatOfAnotherIdentityIsRefused has beats of the live session name another boot or agent than opened it.
func TestBeatOfAnotherIdentityIsRefused(t *testing.T) {
	for name, change := range map[string]func(*beatFrame){
		"boot": func(b *beatFrame) { b.Boot++ }, "agent": func(b *beatFrame) { b.Incarnation-- },
	} {
		t.Run(name, func(t *testing.T) {
			p := newEndpoints(t, func(o *EndpointOptions) { o.MaxVersion = 1 }) // from 2 on there is no way to say it
			p.pass(3)
			p.told = [3][]Event{}
			s := p.ends[2].shake.live
			b := beatFrame{header: header{1, typeBeat, 2, 0}, session: s.use().id, seq: s.links[0].nextBeat(p.now)}
			b.Boot, b.Incarnation, b.Leaving = 0xb0070002, 1, true
			change(&b)
			p.give(1, 0, appendBeat(nil, &b, s.use().mac))
			if p.count(1, kind(BeatHeard)) > 0 || p.count(1, code(CodeRefused)) != 1 {
				t.Errorf("%+v", p.told[1])
			}
		})
	}
}
