package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("ORS_TEST_WRITE"); dir != "" {
		writeForEver(dir)
	}
	goleak.VerifyTestMain(m)
}

type hard struct {
	Epoch uint32 `json:"epoch"`
	Text  string `json:"text"`
}

func reopen(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	s := reopen(t, dir)
	var h hard
	if found, err := s.LoadHard(&h); found || err != nil {
		t.Fatalf("new store: LoadHard = %v, %v", found, err)
	}
	for i := range uint32(5) {
		if err := s.SaveHard(hard{Epoch: i, Text: "line\nfeed"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SaveHandle("Rocky/db", 3, []byte{0, 1, 255}); err != nil {
		t.Fatal(err)
	}
	r := Record{Kind: KindAgent, Text: "started"}
	if err := s.Append(&r); err != nil || r.Pos != 1 || r.At.IsZero() {
		t.Fatalf("Append = %v, %+v", err, r)
	}
	s.Note(Record{Kind: KindStep, Text: "queued"})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = reopen(t, dir)
	if found, err := s.LoadHard(&h); !found || err != nil || h.Epoch != 4 || h.Text != "line\nfeed" {
		t.Fatalf("LoadHard = %v, %v, %+v", found, err, h)
	}
	got, found, err := s.Handle("Rocky/db")
	if err != nil || !found || got.Version != 3 || string(got.State) != "\x00\x01\xff" {
		t.Fatalf("Handle = %+v, %v, %v", got, found, err)
	}
	if apps, err := s.Handles(); err != nil || len(apps) != 1 || apps[0] != "Rocky/db" {
		t.Fatalf("Handles = %q, %v", apps, err)
	}
	rs, err := s.Read(0, 0)
	if err != nil || len(rs) != 2 || rs[1].Text != "queued" || rs[1].Pos != 2 || !rs[0].At.Equal(r.At) {
		t.Fatalf("Read = %+v, %v", rs, err)
	}
	if s.Incarnation() != 2 || len(s.Warnings()) != 0 {
		t.Fatalf("incarnation %d, warnings %q", s.Incarnation(), s.Warnings())
	}
}

func TestSecondAgentIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := reopen(t, dir)
	_, err := Open(dir)
	want := fmt.Sprintf("ORS-6001: the state directory is held by another agent, pid %d", os.Getpid())
	if !errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), want) {
		t.Errorf("second Open = %v, want %q", err, want)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	reopen(t, dir)
}

func TestClosed(t *testing.T) {
	s := reopen(t, t.TempDir())
	followed := make(chan error, 1)
	go func() { followed <- s.Follow(context.Background(), 0, func(Record) error { return nil }) }()
	if err := errors.Join(s.Append(&Record{}), s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	s.Note(Record{})
	for name, err := range map[string]error{
		"SaveHard": s.SaveHard(1), "SaveHandle": s.SaveHandle("a", 1, nil), "DropHandle": s.DropHandle("a"),
		"Append": s.Append(&Record{}), "Follow": <-followed,
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Close = %v", name, err)
		}
	}
}

func TestPermissionsAreTightened(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := reopen(t, dir)
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !permissionsAreAdvisory && (info.Mode().Perm() != 0o700 || len(s.Warnings()) != 1) {
		t.Errorf("mode %v, warnings %q", info.Mode(), s.Warnings())
	}
}

// saved is a state directory with n hard states saved, the last one with epoch n.
func saved(t *testing.T, n uint32) string {
	t.Helper()
	dir := t.TempDir()
	s := reopen(t, dir)
	for i := range n {
		if err := s.SaveHard(hard{Epoch: i + 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestDamagedSlot damages each byte of the newest slot in turn: the other one must be used, with a warning.
func TestDamagedSlot(t *testing.T) {
	dir := saved(t, 4)
	newest := filepath.Join(dir, "hard.1") // saves 1 … 4 went to slots 0, 1, 0, 1
	raw, err := os.ReadFile(newest)
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(raw) * 2 {
		bad := bytes.Clone(raw)
		if i < len(raw) {
			bad[i] ^= 0x20
		} else {
			bad = bad[:i-len(raw)]
		}
		if err := os.WriteFile(newest, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		var told []string
		s, err := openSlots(dir, "hard", func(w string) { told = append(told, w) })
		if err != nil {
			t.Fatal(err)
		}
		var h hard
		found, err := s.load(&h)
		if !found || err != nil || h.Epoch != 3 || len(told) != 1 || !strings.Contains(told[0], "ORS-6007") {
			t.Fatalf("damage %d: %v, %v, epoch %d, %q", i, found, err, h.Epoch, told)
		}
	}
	// The damaged slot is the next to be written.
	s := reopen(t, dir)
	if err := s.SaveHard(hard{Epoch: 9}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var h hard
	if found, err := reopen(t, dir).LoadHard(&h); !found || err != nil || h.Epoch != 9 {
		t.Errorf("after mending: %v, %v, %+v", found, err, h)
	}
}

func TestBothSlotsDamaged(t *testing.T) {
	damage := func(path string) error { return os.WriteFile(path, []byte("ors-state 1\n"), 0o600) }
	for name, spoil := range map[string]func(a, b string) error{
		"both garbled":          func(a, b string) error { return errors.Join(damage(a), damage(b)) },
		"one garbled, one gone": func(a, b string) error { return errors.Join(damage(a), os.Remove(b)) },
		"same generation":       copyFile,
		"another's file": func(a, b string) error {
			return errors.Join(copyFile(filepath.Join(filepath.Dir(a), "incarnation.0"), a), os.Remove(b))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := saved(t, 2)
			a, b := filepath.Join(dir, "hard.0"), filepath.Join(dir, "hard.1")
			if err := spoil(a, b); err != nil {
				t.Fatal(err)
			}
			before, err := os.ReadFile(a)
			if err != nil {
				t.Fatal(err)
			}
			s := reopen(t, dir)
			var h hard
			found, err := s.LoadHard(&h)
			if found || !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "ORS-6003") {
				t.Errorf("LoadHard = %v, %v", found, err)
			}
			if err := s.SaveHard(hard{}); !errors.Is(err, ErrDamaged) {
				t.Errorf("SaveHard = %v", err)
			}
			if after, err := os.ReadFile(a); err != nil || !bytes.Equal(before, after) {
				t.Error("the evidence was changed")
			}
		})
	}
}

func copyFile(from, to string) error {
	raw, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, raw, 0o600)
}

func TestSaveHardThatCannotBeEncoded(t *testing.T) {
	s := reopen(t, t.TempDir())
	if err := s.SaveHard(hard{Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	if err := s.SaveHard(func() {}); err == nil || !strings.Contains(err.Error(), "ORS-6005") {
		t.Errorf("SaveHard = %v", err)
	}
	var h hard
	if found, err := s.LoadHard(&h); !found || err != nil || h.Epoch != 1 {
		t.Errorf("LoadHard = %v, %v, %+v", found, err, h)
	}
	if _, err := s.LoadHard(new(int)); !errors.Is(err, ErrDamaged) {
		t.Errorf("LoadHard into another type = %v", err)
	}
}

func TestHandles(t *testing.T) {
	dir := t.TempDir()
	s := reopen(t, dir)
	apps := []string{
		"db", "DB", "../../etc/passwd", "rocky/db", ".", "100%", "naïve", "a.b", strings.Repeat("x", 64), "con", "lpt1", "com",
	}
	for i, app := range apps {
		if err := s.SaveHandle(app, uint32(i), []byte(app)); err != nil {
			t.Fatal(err)
		}
	}
	for i, app := range apps {
		h, found, err := s.Handle(app)
		if err != nil || !found || h.Version != uint32(i) || string(h.State) != app {
			t.Errorf("Handle(%q) = %+v, %v, %v", app, h, found, err)
		}
	}
	if all, err := s.Handles(); err != nil || len(all) != len(apps) {
		t.Errorf("Handles = %q, %v", all, err)
	}
	for _, app := range []string{"", strings.Repeat("x", 65)} {
		if err := s.SaveHandle(app, 1, nil); err == nil {
			t.Errorf("SaveHandle(%q) was let pass", app)
		}
	}
	if err := errors.Join(s.DropHandle("db"), s.DropHandle("db"), s.DropHandle("never")); err != nil {
		t.Error(err)
	}
	if _, found, err := s.Handle("db"); found || err != nil {
		t.Errorf("after DropHandle: %v, %v", found, err)
	}
	handles := filepath.Join(dir, "handles")
	err := copyFile(filepath.Join(handles, "rocky%2fdb.handle"), filepath.Join(handles, "other.handle"))
	if err != nil {
		t.Fatal(err)
	}
	_, found, err := s.Handle("other")
	if found || !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "ORS-6006") {
		t.Errorf("a handle under another's name: %v, %v", found, err)
	}
}

func TestIncarnation16(t *testing.T) {
	for _, tc := range []struct {
		n    int
		want uint16
	}{{1, 1}, {65535, 65535}, {65536, 1}, {131071, 1}} {
		if got := (&Store{incarnation: tc.n}).Incarnation16(); got != tc.want {
			t.Errorf("Incarnation16 of %d = %d, want %d", tc.n, got, tc.want)
		}
	}
}

// TestTornTail cuts and garbles the journal at every byte of its last records: what stands before must be read, and new
// records must follow it.
func TestTornTail(t *testing.T) {
	dir := t.TempDir()
	s := reopen(t, dir)
	for i := range 4 {
		if err := s.Append(&Record{Text: fmt.Sprintf("record %d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "journal-00000000000000000001.log")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ends := []int{0}
	for i, c := range raw {
		if c == '\n' {
			ends = append(ends, i+1)
		}
	}
	whole := func(n int) (records int) { // records that end at or before byte n
		for _, e := range ends[1:] {
			if e <= n {
				records++
			}
		}
		return records
	}
	for at := ends[2]; at < len(raw); at++ {
		torn := bytes.Clone(raw[:at])
		zeroed := append(bytes.Clone(raw[:at]), make([]byte, len(raw)-at)...)
		for name, data := range map[string][]byte{"cut": torn, "zeroed": zeroed} {
			checkTail(t, fmt.Sprintf("%s at %d", name, at), data, whole(at))
		}
	}
}

func checkTail(t *testing.T, name string, data []byte, want int) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "journal-00000000000000000001.log"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	var told []string
	j, err := openJournal(dir, journalKind, func(w string) { told = append(told, w) })
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	r := Record{Text: "new"}
	err = j.append(&r)
	got, readErr := j.read(0, 0)
	if err := errors.Join(err, readErr, j.close()); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if len(got) != want+1 || got[want].Text != "new" || r.Pos != uint64(want)+1 {
		t.Errorf("%s: %d records, new one at %d, want %d and then it", name, len(got), r.Pos, want)
	}
	clean := len(data) == 0 || data[len(data)-1] == '\n'
	if clean != (len(told) == 0) {
		t.Errorf("%s: warnings %q", name, told)
	}
}

// TestDamagedMiddle: what stands behind damage is not thrown away.
func TestDamagedMiddle(t *testing.T) {
	dir := t.TempDir()
	s := reopen(t, dir)
	for i := range 5 {
		if err := s.Append(&Record{Text: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "journal-00000000000000000001.log")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[bytes.IndexByte(raw, '\n')+12] ^= 1
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	s = reopen(t, dir)
	rs, err := s.Read(0, 0)
	if err != nil || len(rs) != 4 || rs[1].Pos != 3 || len(s.Warnings()) != 1 ||
		!strings.Contains(s.Warnings()[0], "passed over") {
		t.Errorf("%d records, %v, %q", len(rs), err, s.Warnings())
	}
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	s, err := open(dir, logKind{JournalName, "event journal", 2000, journalFiles, 4096})
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan uint64, 1000)
	followed := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		followed <- s.Follow(ctx, 0, func(r Record) error { seen <- r.Pos; return nil })
	}()
	for i := range 200 {
		r := Record{Text: "some text that fills the file"}
		if err := s.Append(&r); err != nil || r.Pos != uint64(i)+1 {
			t.Fatalf("Append %d = %v, position %d", i, err, r.Pos)
		}
		if got := <-seen; got != r.Pos { // in step, so that nothing is rotated away under the follower
			t.Fatalf("followed %d, want %d", got, r.Pos)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "journal-*.log"))
	if err != nil || len(files) != journalFiles {
		t.Errorf("files %q, %v", files, err)
	}
	rs, err := s.Read(0, 0)
	if err != nil || len(rs) < 10 || len(rs) > 50 || rs[len(rs)-1].Pos != 200 {
		t.Errorf("%d records, %v", len(rs), err)
	}
	if rs, err := s.Read(195, 2); err != nil || len(rs) != 2 || rs[0].Pos != 199 {
		t.Errorf("Read(195, 2) = %+v, %v", rs, err)
	}
	cancel()
	if err := errors.Join(s.Close()); err != nil || !errors.Is(<-followed, context.Canceled) {
		t.Error(err)
	}
	s = reopen(t, dir)
	r := Record{}
	if err := s.Append(&r); err != nil || r.Pos != 201 {
		t.Errorf("after reopening: %v, position %d", err, r.Pos)
	}
}

func TestNotesKeepTheirOrder(t *testing.T) {
	s := reopen(t, t.TempDir())
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 50 {
				r := Record{Data: map[string]any{"w": w, "i": i}}
				if i%10 == 9 {
					if err := s.Append(&r); err != nil {
						t.Error(err)
					}
				} else {
					s.Note(r)
				}
			}
		})
	}
	wg.Wait()
	rs, err := s.Read(0, 0)
	if err != nil || len(rs) != 200 {
		t.Fatalf("%d records, %v", len(rs), err)
	}
	next := map[float64]float64{}
	for i, r := range rs {
		w, n := r.Data["w"].(float64), r.Data["i"].(float64)
		if r.Pos != uint64(i)+1 || n != next[w] {
			t.Fatalf("record %d: position %d, writer %v has %v, want %v", i, r.Pos, w, n, next[w])
		}
		next[w]++
	}
}

func TestRecordThatCannotBeEncoded(t *testing.T) {
	s := reopen(t, t.TempDir())
	bad := Record{Kind: KindAgent, Data: map[string]any{"f": func() {}}}
	if err := s.Append(&bad); err == nil || bad.Pos != 0 {
		t.Errorf("Append = %v, position %d", err, bad.Pos)
	}
	s.Note(bad)
	if err := s.Append(&Record{Text: strings.Repeat("x", maxFrame)}); err == nil {
		t.Error("a record beyond all measure was let pass")
	}
	if err := s.Append(&Record{Text: "good"}); err != nil {
		t.Fatal(err)
	}
	rs, err := s.Read(0, 0)
	if err != nil || len(rs) != 2 || rs[0].Code != "ORS-6009" || rs[1].Text != "good" {
		t.Errorf("%+v, %v", rs, err)
	}
}

// FuzzFiles feeds what the state directory may hold: slots and handles, which are believed as a whole or not at all,
// and logs, of which every good line is read.
func FuzzFiles(f *testing.F) {
	const slot, handle, log = 0, 1, 2
	good := encode("hard", 12, []byte(`{"epoch":7}`))
	for kind, whole := range [][]byte{
		good, encode("db", 1, []byte(`{"Version":3,"State":"AAE="}`)), frames(f, 3),
	} {
		f.Add(byte(kind), whole)
		f.Add(byte(kind), whole[:len(whole)-5])
		f.Add(byte(kind), append([]byte("garbage\n"), whole...))
		f.Add(byte(kind), append(bytes.Clone(whole), whole...))
	}
	f.Add(byte(slot), []byte("ors-state 1 \"hard\" generation=0012 length=11 crc32c=00000000\n{}"))
	f.Add(byte(handle), encode("db", 1, []byte(`{"Version":-3}`)))
	f.Add(byte(log), []byte("\n"))
	f.Fuzz(func(t *testing.T, kind byte, raw []byte) {
		switch kind % 3 {
		case slot:
			generation, body, err := decode("hard", raw)
			if err == nil && !bytes.Equal(encode("hard", generation, body), raw) {
				t.Errorf("%q was taken for generation %d", raw, generation)
			}
		case handle:
			fuzzHandle(t, raw)
		case log:
			fuzzLog(t, raw)
		}
	})
}

// fuzzHandle: a handle's file is the handle that it says, or damaged; it is never none.
func fuzzHandle(t *testing.T, raw []byte) {
	s := &Store{dir: t.TempDir()}
	if err := os.MkdirAll(s.handleDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.handleDir(), "db.handle"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	_, found, err := s.Handle("db")
	if found == (err != nil) || err != nil && !errors.Is(err, ErrDamaged) {
		t.Fatalf("%q: found %v, %v", raw, found, err)
	}
}

// frames are n lines of a log.
func frames(t testing.TB, n int) []byte {
	var whole []byte
	for i := range n {
		frame, err := encodeFrame(Record{Pos: uint64(i + 1), Text: "text", Body: []byte(`{"a":1}`)})
		if err != nil {
			t.Fatal(err)
		}
		whole = append(whole, frame...)
	}
	return whole
}

func fuzzLog(t *testing.T, raw []byte) {
	s := scanFrames(raw, 1<<40)
	if s.good < 0 || s.good > int64(len(raw)) || (len(s.records) == 0) != (s.good == 0) {
		t.Fatalf("end of the last good record is %d of %d", s.good, len(raw))
	}
	last := uint64(0)
	for _, r := range s.records {
		if r.Pos <= last {
			t.Fatalf("position %d behind %d", r.Pos, last)
		}
		last = r.Pos
	}
	if again := scanFrames(raw[:s.good], 1<<40); len(again.records) != len(s.records) || again.last != s.last {
		t.Fatal("cutting the tail off has changed what is before it")
	}
	var c Contents
	c.add("a.log", raw, true)
	if len(c.Records) != len(s.records) || (s.good < int64(len(raw))) != (c.Torn != "" || len(c.Damaged) > len(s.damaged)) {
		t.Fatalf("read as a file of its own: %d of %d records, %+v", len(c.Records), len(s.records), c)
	}
}

// writeForEver is the test program as an agent that writes until it is killed. It prints what is on the disk.
func writeForEver(dir string) {
	s, err := Open(dir)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var h hard
	if _, err := s.LoadHard(&h); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	for {
		h.Epoch++
		state, _ := json.Marshal(h)
		s.Note(Record{Kind: KindStep, Text: "noted"})
		r := Record{Kind: KindAgent, Op: uint64(h.Epoch)}
		if err := errors.Join(s.SaveHard(h), s.SaveHandle("db", h.Epoch, state), s.Append(&r)); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println("saved", h.Epoch, r.Pos)
	}
}
