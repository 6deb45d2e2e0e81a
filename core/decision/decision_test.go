package decision_test

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/orscore/ors/core/decision"
	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/store"
)

// TestNothingIsLost: every field of what is recorded comes back, however deep, and a field that has no JSON form, or
// that is not exported, is noticed here when it is added.
func TestNothingIsLost(t *testing.T) {
	for _, v := range []any{
		&failover.State{}, &failover.Params{}, &failover.Event{}, &failover.Action{}, &decision.Names{}, &decision.Link{},
	} {
		n := int64(0)
		fill(t, reflect.ValueOf(v).Elem(), &n)
		if n < 2 {
			t.Fatalf("%T has %d fields", v, n)
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		back := reflect.New(reflect.TypeOf(v).Elem())
		if err := json.Unmarshal(b, back.Interface()); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(v, back.Interface()) {
			t.Errorf("%T comes back as another one:\n%+v\n%+v", v, v, back.Interface())
		}
		t.Logf("%T: %d values", v, n)
	}
}

// fill gives every field below v a value of its own.
func fill(t *testing.T, v reflect.Value, n *int64) {
	t.Helper()
	*n++
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32:
		v.SetInt(*n % 100)
	case reflect.Int64:
		v.SetInt(int64(failover.Never) - *n) // beyond what a float can hold
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(uint64(*n % 100))
	case reflect.Uint64:
		v.SetUint(1<<63 + uint64(*n))
	case reflect.Float32, reflect.Float64:
		v.SetFloat(float64(*n) + 0.1)
	case reflect.String:
		v.SetString(strings.Repeat("x", int(*n%7)+1) + "\n\"")
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(t, v.Index(0), n)
		fill(t, v.Index(1), n)
	case reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i), n)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() || f.Tag.Get("json") == "-" {
				t.Fatalf("%v.%s is not recorded: a decision that rests on it could not be made again", v.Type(), f.Name)
			}
			fill(t, v.Field(i), n)
		}
	default:
		t.Fatalf("%v: a %v has no one form on record", v.Type(), v.Kind())
	}
}

var names = decision.Names{
	Servers: [2]string{"rocky", "apollo"}, Groups: []string{"rocky", "apollo"}, Units: []string{"storage2", "storage1"},
}

func params() failover.Params {
	p := failover.Defaults(2_000)
	p.Self = failover.Second
	p.Units = []failover.UnitParams{{Group: 0}, {Group: 1}}
	for g := range 2 {
		p.Groups = append(p.Groups, failover.GroupParams{Primary: failover.Server(g + 1), Units: []int{g},
			AttachTimeout: 10_000, StartTimeout: 20_000, StopTimeout: 20_000, RestartLimit: 2, RestartReset: 60_000})
	}
	return p
}

// server makes steps and keeps those that were decisions, as the loop does.
type server struct {
	t     *testing.T
	p     failover.Params
	s     failover.State
	rec   *decision.Recorder
	kept  []store.Record
	steps int
	names decision.Names
}

func newServer(t *testing.T) *server {
	t.Helper()
	v := &server{t: t, p: params(), rec: decision.NewRecorder(7), names: names}
	v.s = failover.New(&v.p, failover.Hard{}, 1)
	return v
}

func (v *server) step(e failover.Event) []failover.Action {
	v.t.Helper()
	next, actions := failover.Step(&v.p, v.s, e)
	v.steps++
	if id, about, renewals := v.rec.Pick(&v.names, &v.s, &next, actions); id != "" {
		d := decision.Decision{ID: id, At: time.Unix(1_800_000_000, 0).UTC(), Server: "apollo", Version: "test",
			Rules: decision.Rules(), Names: v.names, Links: []decision.Link{{Name: "cable", Ever: true, Age: 2100 * time.Millisecond}},
			About: about, Renewals: renewals, Params: v.p, Before: v.s, Event: e, Actions: actions}
		r, err := d.Record(&next)
		if err != nil {
			v.t.Fatal(err)
		}
		r.Pos = uint64(len(v.kept) + 1)
		v.kept = append(v.kept, r)
	}
	v.s = next
	return actions
}

// answer answers what was asked as a good day would.
func (v *server) answer(actions []failover.Action, keys []failover.Key) {
	for len(actions) > 0 {
		a := actions[0]
		actions = actions[1:]
		e := failover.Event{At: v.s.Now + 5, Group: a.Group, Unit: a.Unit, Op: a.Op}
		switch a.Kind {
		case failover.Inspect:
			e.Kind, e.Key = failover.UnitRead, keys[a.Unit]
		case failover.Swap:
			e.Kind = failover.Swapped
			if keys[a.Unit] == a.Swaps[0].Old {
				keys[a.Unit] = a.Swaps[0].New
			}
		case failover.Attach:
			e.Kind = failover.Attached
		case failover.StartApps:
			e.Kind = failover.AppsUp
		case failover.KillAll:
			e.Kind = failover.Cleared
		default:
			continue
		}
		actions = append(actions, v.step(e)...)
	}
}

// takeover is a server that sees its partner die and takes its group.
func takeover(t *testing.T) *server {
	v := newServer(t)
	keys := []failover.Key{{Owner: failover.First, N: 3}, {Owner: failover.Second, N: 3}}
	links := func(silent bool) failover.Evidence {
		return failover.Evidence{Links: []failover.LinkEvidence{{Silent: silent, Ever: true}}, Network: failover.Yes}
	}
	v.answer(v.step(failover.Event{Kind: failover.Seen, At: 10, Evidence: links(false)}), keys)
	for at := failover.Tick(100); at < 6_000; at += 100 {
		beat := failover.Beat{HearsUs: true, Losses: 1, Promised: max(1, v.s.Hard.Promised), Common: v.s.Hard.Promised}
		v.answer(v.step(failover.Event{Kind: failover.Heard, At: at, Beat: beat}), keys)
	}
	v.answer(v.step(failover.Event{Kind: failover.Seen, At: 8_000, Evidence: links(true)}), keys)
	for at := failover.Tick(8_050); at < 60_000; at += 50 {
		v.answer(v.step(failover.Event{Kind: failover.Passed, At: at}), keys)
	}
	if keys[0].Owner != failover.Second || v.s.Groups[0].Phase != failover.Active {
		t.Fatalf("no takeover: %v, %v, %v", keys, v.s.Groups[0].Phase, v.s.Partner.Verdict)
	}
	return v
}

func mustDecode(t *testing.T, r store.Record) *decision.Decision {
	t.Helper()
	d, err := decision.Decode(r)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDecisionsAreMadeAgain(t *testing.T) {
	v := takeover(t)
	bytes := 0
	for _, rec := range v.kept {
		bytes += len(rec.Body)
		d := mustDecode(t, rec)
		r, err := d.Replay()
		if err != nil || !r.Identical || !r.SameRules {
			t.Errorf("%s: %+v, %v\n%s", d.ID, r, err, d.Explain(r))
		}
	}
	t.Logf("%d of %d steps are on record, %d bytes each", len(v.kept), v.steps, bytes/len(v.kept))
	if len(v.kept) > v.steps/10 {
		t.Errorf("%d of %d steps are on record: beats, reads and renewals are no decisions", len(v.kept), v.steps)
	}
	if last := mustDecode(t, v.kept[len(v.kept)-1]); last.ID == v.kept[0].ID || !strings.HasPrefix(last.ID, "7.") {
		t.Errorf("the last decision's id is %s", last.ID)
	}
}

// TestOtherDecisionIsNoticed changes what is on record in each way in turn: none is called identical.
func TestOtherDecisionIsNoticed(t *testing.T) {
	v := takeover(t)
	var lost *decision.Decision
	for _, rec := range v.kept {
		if d := mustDecode(t, rec); d.Event.Kind == failover.Seen && d.Event.At == 8_000 {
			lost = d
		}
	}
	if lost == nil {
		t.Fatal("the loss is not on record")
	}
	for _, c := range []struct {
		what   string
		change func(d *decision.Decision)
		differ string
	}{
		{"an action left out", func(d *decision.Decision) { d.Actions = d.Actions[1:] }, "now"},
		{"an action more", func(d *decision.Decision) { d.Actions = append(d.Actions, d.Actions[0]) }, "then and not now"},
		{"another evidence", func(d *decision.Decision) { d.Event.Evidence.Network = failover.No }, "then"},
		{"another state", func(d *decision.Decision) { d.Before.Hard.Common++ }, "the state after it is another one"},
		{"another parameter", func(d *decision.Decision) { d.Params.RenewInterval++ }, "the state after it is another one"},
		{"another outcome", func(d *decision.Decision) { d.After = "00" }, "the state after it is another one"},
	} {
		d := *lost
		d.Event.Evidence.Links = append([]failover.LinkEvidence(nil), d.Event.Evidence.Links...)
		c.change(&d)
		r, err := d.Replay()
		if err != nil || r.Identical || !strings.Contains(strings.Join(r.Differs, "\n"), c.differ) {
			t.Errorf("%s: %v, %v", c.what, r.Differs, err)
		}
		if text := d.Explain(r); !strings.Contains(text, "NOT identical") {
			t.Errorf("%s: %s", c.what, text)
		}
	}
	d := *lost
	d.Rules = "older"
	if r, err := d.Replay(); err != nil || r.SameRules || !strings.Contains(d.Explain(r), "The rules have changed since") {
		t.Errorf("other rules: %+v, %v", r, err)
	}
}

func TestExplanations(t *testing.T) {
	v := takeover(t)
	var all strings.Builder
	for _, rec := range v.kept {
		d := mustDecode(t, rec)
		r, err := d.Replay()
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString(d.Explain(r))
	}
	for _, want := range []string{
		"Decision 7.1 of apollo,",
		"The partner: alive -> lost. No beats on any link for the time-out.",
		"link cable: last beat 2.1s before",
		"network check: its targets answer",
		"storage storage2: the switch showed rocky at epoch 3",
		"its words: promised round 1, agreed 1, it hears this server",
		"The partner is lost: bidding for the first storage unit. [bid]",
		"storage2: rocky at epoch 3 -> apollo at epoch 4, round 1 won by apollo",
		"Group rocky: Standby -> Attaching. The switch has granted the storage to this server.",
		"of the table, on OwnerSelf; facts: restarts left",
		"the row asks for: not release open",
		"Attach of group rocky, operation",
		"to be done within 10s",
		"Identical: the recorded input leads to the same decision.",
	} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("nowhere is said %q", want)
		}
	}
	if t.Failed() {
		t.Log(all.String())
	}
}

// TestAnyStepIsMadeAgain feeds random events, as a pair never would: each decision comes back identical, by way of the
// disk's form.
func TestAnyStepIsMadeAgain(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 3))
		v := newServer(t)
		for range 300 {
			g := r.IntN(2)
			e := failover.Event{Kind: failover.EventKind(r.IntN(int(failover.ReadyNo) + 1)), At: v.s.Now + failover.Tick(r.IntN(3_000)),
				Group: g, Unit: g, Op: v.s.Groups[g].Op, Move: uint64(r.IntN(2)), Word: failover.Word(r.IntN(8)), Text: "x\ufffd",
				Key:      failover.Key{Owner: failover.Server(r.IntN(3)), N: v.s.Units[g].Key.N + uint32(r.IntN(2))},
				Evidence: failover.Evidence{Links: []failover.LinkEvidence{{Silent: r.IntN(3) == 0, Ever: true}}},
				Beat:     failover.Beat{HearsUs: true, Promised: v.s.Hard.Promised, Common: v.s.Hard.Promised, HeldUnit: -1}}
			if e.Kind == failover.UnitRead {
				e.Op = v.s.Units[g].ReadOp
			}
			v.step(e)
		}
		for _, rec := range v.kept {
			d := mustDecode(t, rec)
			if again, err := d.Replay(); err != nil || !again.Identical {
				t.Fatalf("seed %d: %v, %v\n%s", seed, again.Differs, err, d.Explain(again))
			}
		}
	}
}

// withoutGroups is a server of a pair that has only its interconnect yet.
func withoutGroups(t *testing.T) *server {
	v := newServer(t)
	v.p.Units, v.p.Groups, v.names.Units, v.names.Groups = nil, nil, nil, nil
	v.s = failover.New(&v.p, failover.Hard{}, 1)
	for i, silent := range []bool{false, true, false} {
		at := failover.Tick(i+1) * 5_000
		v.step(failover.Event{Kind: failover.Seen, At: at,
			Evidence: failover.Evidence{Links: []failover.LinkEvidence{{Silent: silent, Ever: true}}}})
		v.step(failover.Event{Kind: failover.Heard, At: at + 10, Beat: failover.Beat{HearsUs: true, HeldUnit: -1}})
	}
	return v
}

// TestPairWithoutGroups: what a pair decides that has only its interconnect yet is made again, too; what cannot be of
// such a pair is refused.
func TestPairWithoutGroups(t *testing.T) {
	v := withoutGroups(t)
	if len(v.kept) < 3 {
		t.Fatalf("%d decisions are on record, want one for each change of the verdict", len(v.kept))
	}
	for _, rec := range v.kept {
		d := mustDecode(t, rec)
		if r, err := d.Replay(); err != nil || !r.Identical {
			t.Errorf("%s: %+v, %v\n%s", d.ID, r, err, d.Explain(r))
		}
		for _, change := range []func(*decision.Decision){
			func(d *decision.Decision) { d.Event.Kind = failover.UnitRead },
			func(d *decision.Decision) { d.Event.Unit = 1 },
			func(d *decision.Decision) { d.Actions = []failover.Action{{Kind: failover.Swap}} },
		} {
			other := *d
			change(&other)
			body, err := json.Marshal(other)
			if err != nil {
				t.Fatal(err)
			}
			rec.Body = body
			if _, err := decision.Decode(rec); err == nil {
				t.Errorf("decoded: %s", body)
			}
		}
	}
}

func TestFindAndNewest(t *testing.T) {
	v := takeover(t)
	if _, err := decision.Find(v.kept, "9.9"); err == nil || !strings.Contains(err.Error(), `no decision "9.9"`) {
		t.Errorf("Find of none: %v", err)
	}
	if d, err := decision.Find(v.kept, "7.2"); err != nil || d.ID != "7.2" {
		t.Errorf("Find: %v, %v", d, err)
	}
	about := map[string]bool{}
	for _, d := range decision.Newest(v.kept) {
		for _, a := range d.About {
			about[a] = true
		}
	}
	if !about["rocky"] || !about["apollo"] || !about[decision.AboutVerdict] {
		t.Errorf("the newest decisions are about %v", about)
	}
}

func FuzzDecode(f *testing.F) {
	v := takeover(&testing.T{})
	for _, i := range []int{0, 3, len(v.kept) - 1} {
		f.Add([]byte(v.kept[i].Body))
	}
	f.Add([]byte(`{"params":{"Units":[{"Group":5}]}}`))
	bare := withoutGroups(&testing.T{})
	f.Add([]byte(bare.kept[0].Body))
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := decision.Decode(store.Record{Pos: 1, ID: "1.1", Kind: decision.Kind, Body: body})
		if err != nil {
			return
		}
		r, err := d.Replay()
		if err != nil {
			return
		}
		if d.Explain(r) == "" {
			t.Fatal("nothing is said")
		}
	})
}
