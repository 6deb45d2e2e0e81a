package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// put installs the test plugin under a name, as a program that says it is a version; the file is replaced in one step.
func put(t testing.TB, h *Host, name, version string) string {
	t.Helper()
	raw, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if version != "" {
		raw = append(raw, strings.Repeat(" ", 64)+"version="+version...)
	}
	path := filepath.Join(h.o.Dir, name)
	if err := errors.Join(os.WriteFile(path+".new", raw, 0o755), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
	sum, err := fileSum(path)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func TestSplitName(t *testing.T) {
	for _, tt := range []struct {
		name, kind, version string
		ok                  bool
	}{
		{"ors-plugin-domino", "domino", "", true},
		{"ors-plugin-domino_1.2.3", "domino", "1.2.3", true},
		{"ors-plugin-domino_1.2.3-rc.1", "domino", "1.2.3-rc.1", true},
		{"ors-plugin-my_app", "my_app", "", true},
		{"ors-plugin-my_app_2.0", "my_app", "2.0.0", true},
		{"ors-plugin-domino.old", "", "", false},
		{"ors-plugin-domino_1.2.3.old", "", "", false},
		{"ors-plugin-domino_1.2.3~", "", "", false},
		{".ors-plugin-domino.new-1", "", "", false},
		{"ors-plugin-", "", "", false},
		{"orscore", "", "", false},
	} {
		kind, v, ok := splitName(tt.name)
		got := ""
		if v != nil {
			got = v.String()
		}
		if kind != tt.kind || got != tt.version || ok != tt.ok {
			t.Errorf("splitName(%q) = %q, %q, %v", tt.name, kind, got, ok)
		}
	}
}

func TestNewestThatFitsServes(t *testing.T) {
	type file struct{ name, says string }
	bare, two, three := file{"ors-plugin-good", ""}, file{"ors-plugin-good_2.0.0", "2.0.0"}, file{"ors-plugin-good_3.0.0", "3.0.0"}
	tests := []struct {
		name  string
		files []file
		pin   string
		pinOf string // name of the file whose hash is pinned
		want  string
		code  string
	}{
		{name: "the newest", files: []file{bare, two, three}, want: "3.0.0"},
		{name: "the newest below", files: []file{bare, two, three}, pin: "< 3", want: "2.0.0"},
		{name: "one without a version in its name", files: []file{bare, two, three}, pin: "~> 1.2", want: "1.2.3"},
		{name: "the pinned one", files: []file{bare, two, three}, pinOf: "ors-plugin-good_2.0.0", want: "2.0.0"},
		{name: "10 is newer than 9", files: []file{{"ors-plugin-good_9.0.0", "9.0.0"}, {"ors-plugin-good_10.0.0", "10.0.0"}},
			want: "10.0.0"},
		{name: "none fits", files: []file{bare, two}, pin: "> 7", code: CodeVersion},
		{name: "a name that lies", files: []file{{"ors-plugin-good_4.0.0", "3.9.0"}}, code: CodeVersion},
		{name: "one that is not finished", files: []file{bare, {"ors-plugin-good_2.0.0.part", "2.0.0"}}, want: "1.2.3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newRig(t, quick, map[string]Pin{})
			pin := Pin{Version: tt.pin}
			for _, f := range tt.files {
				if sum := put(t, h, f.name, f.says); f.name == tt.pinOf {
					pin.SHA256 = sum
				}
			}
			h.o.Pins["good"] = pin
			h.Start(background(t), []string{"good"})
			s := statusOf(t, h, "good")
			if tt.code != "" {
				if s.State != StateRefused || !strings.Contains(s.Detail, tt.code) {
					t.Fatalf("status %+v", s)
				}
				return
			}
			if s.State != StateRunning || s.Version != tt.want || s.Launches != 1 {
				t.Fatalf("status %+v", s)
			}
		})
	}
}

// A program that others could replace is not even run to ask for its version, and does not keep others from serving.
func TestUnsafeNeighbour(t *testing.T) {
	h := newRig(t, quick, nil, "good")
	put(t, h, "ors-plugin-good_2.0.0", "2.0.0")
	chmod(t, filepath.Join(h.o.Dir, "ors-plugin-good_2.0.0"), 0o757)
	h.Start(background(t), []string{"good"})
	if s := statusOf(t, h, "good"); s.State != StateRunning || s.Version != "1.2.3" {
		t.Fatalf("status %+v", s)
	}
	all, err := h.Programs(background(t))
	if err != nil || len(all) != 2 {
		t.Fatalf("programs %+v, %v", all, err)
	}
	for _, p := range all {
		refused := strings.Contains(p.Problem, CodeMode)
		if unsafe := p.Version != "1.2.3"; refused != unsafe || p.Chosen == unsafe {
			t.Errorf("program %+v", p)
		}
	}
}

// What a program has said is known by its hash: it need not be run, and cannot be any more.
func TestKnownByHash(t *testing.T) {
	h := newRig(t, quick, nil, "good")
	ctx := background(t)
	if _, _, ok := h.Known("good"); ok {
		t.Fatal("known before it has run")
	}
	info, schema, err := h.Describe(ctx, "good")
	if err != nil || info.GetVersion() != "1.2.3" || len(schema.GetAttributes()) != 1 {
		t.Fatalf("%v, %v, %v", info, schema, err)
	}
	log := filepath.Join(h.o.LogDir, "plugin-good.log")
	before, err := os.ReadFile(log)
	if err != nil || strings.Count(string(before), "begins") != 1 {
		t.Fatalf("log %q, %v", before, err)
	}
	if info, schema, ok := h.Known("good"); !ok || info.GetVersion() != "1.2.3" || len(schema.GetAttributes()) != 1 {
		t.Errorf("known: %v, %v, %v", info, schema, ok)
	}
	if _, _, err := h.Describe(ctx, "good"); err != nil {
		t.Error(err)
	}
	if all, err := h.Programs(ctx); err != nil || len(all) != 1 || all[0].Protocol != 1 || !all[0].Chosen {
		t.Errorf("programs %+v, %v", all, err)
	}
	if after, err := os.ReadFile(log); err != nil || string(after) != string(before) {
		t.Errorf("the program was run again: %q, %v", after, err)
	}
	// Another program is another hash; a damaged file is as none.
	put(t, h, "ors-plugin-good", "1.3.0")
	if _, _, ok := h.Known("good"); ok {
		t.Error("another program is known")
	}
	if info, _, err := h.Describe(ctx, "good"); err != nil || info.GetVersion() != "1.3.0" {
		t.Errorf("%v, %v", info, err)
	}
	files, err := filepath.Glob(filepath.Join(h.o.KnownDir, "*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range files {
		if err := os.WriteFile(f, []byte(`{"protocol":1,"info":{`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, ok := h.Known("good"); ok {
		t.Error("known from a damaged file")
	}
}

// Several programs that nobody knows are not run to find out which one would serve.
func TestKnownRunsNothing(t *testing.T) {
	h := newRig(t, quick, nil, "good")
	put(t, h, "ors-plugin-good_2.0.0", "2.0.0")
	if _, _, ok := h.Known("good"); ok {
		t.Error("known before they have run")
	}
	if files, err := os.ReadDir(h.o.LogDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a program was run: %v, %v", files, err)
	}
	if _, _, err := h.Describe(background(t), "good"); err != nil {
		t.Fatal(err)
	}
	if info, _, ok := h.Known("good"); !ok || info.GetVersion() != "2.0.0" {
		t.Errorf("known: %v, %v", info, ok)
	}
}

// A program that says no handshake, and has started others meanwhile, leaves none of them behind, whoever ended it.
func TestMuteProgramLeavesNothing(t *testing.T) {
	t.Run("killed", func(t *testing.T) { muteProgram(t, "wait", "no handshake within") })
	t.Run("ended", func(t *testing.T) { muteProgram(t, "exit 3", "exit status 3") })
}

func muteProgram(t *testing.T, last, says string) {
	h := newRig(t, quick, nil, "good")
	h.o.Asked = true
	mark := filepath.Join(t.TempDir(), "pid")
	path := filepath.Join(h.o.Dir, "ors-plugin-mute")
	text := "#!/bin/sh\nsleep 300 &\necho $! >" + mark + ".new\nmv " + mark + ".new " + mark + "\n" + last + "\n"
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	_, _, err := h.Describe(background(t), "mute")
	if err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("error %v", err)
	}
	var e *Error
	if !errors.As(err, &e) || strings.Contains(e.Next, h.o.LogDir) {
		t.Errorf("the next step %+v is in a folder that goes", e)
	}
	raw, err := os.ReadFile(mark)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); unix.Kill(pid, 0) == nil; time.Sleep(time.Millisecond) {
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err != nil || strings.Contains(string(stat), ") Z ") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("process %d goes on", pid)
		}
	}
}

// TestWhoDoesNotAnswerIsLeftAlone: a program that could not say what it is does not take its time again from each start
// of another one that serves; an operator's upgrade asks it once more. One whose name says that it does not fit is never
// run.
func TestWhoDoesNotAnswerIsLeftAlone(t *testing.T) {
	h := newRig(t, quick, map[string]Pin{"good": {Version: "< 4"}}, "good")
	count := filepath.Join(t.TempDir(), "runs")
	for _, name := range []string{"ors-plugin-good_3.0.0", "ors-plugin-good_5.0.0"} {
		text := "#!/bin/sh\necho " + name + " >>" + count + "\nexit 3\n"
		if err := os.WriteFile(filepath.Join(h.o.Dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	runs := func(want int) {
		t.Helper()
		raw, err := os.ReadFile(count)
		if err != nil || strings.Contains(string(raw), "5.0.0") || strings.Count(string(raw), "3.0.0") != want {
			t.Errorf("runs %q, %v; want %d of 3.0.0", raw, err, want)
		}
	}
	ctx := background(t)
	for range 3 {
		if info, _, err := h.Describe(ctx, "good"); err != nil || info.GetVersion() != "1.2.3" {
			t.Fatalf("%v, %v", info, err)
		}
	}
	runs(1)
	h.Start(ctx, []string{"good"})
	_ = h.Upgrade(ctx, "good", func(context.Context, *Candidate) error { return nil })
	runs(2)
	if err := os.Remove(h.program("good")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.Describe(ctx, "good"); err == nil {
		t.Error("described without a program that works")
	}
	runs(3)
}

// TestReplacedWhileItStarts: what was looked at, and perhaps pinned, is what serves.
func TestReplacedWhileItStarts(t *testing.T) {
	h := newRig(t, quick, nil, "good")
	c, refused := look("good", h.program("good"))
	if refused != nil {
		t.Fatal(refused)
	}
	put(t, h, "ors-plugin-good", "6.6.6")
	if _, err := h.describe(background(t), "good", c); err == nil || !strings.Contains(err.Error(), "was replaced") {
		t.Errorf("error %v", err)
	}
	if h.recall("good", c.sum) != nil {
		t.Error("what another program has said is kept under its hash")
	}
}

// TestKnownUnderAnotherName: a program says its kind itself, whatever its file is called.
func TestKnownUnderAnotherName(t *testing.T) {
	h := newRig(t, quick, nil, "good")
	if _, _, err := h.Describe(background(t), "good"); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(h.program("good"))
	if err == nil {
		err = os.WriteFile(h.program("other"), raw, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, _, ok := h.Known("other"); ok {
		t.Error("another kind's program is known")
	}
}

func TestFewAreKept(t *testing.T) {
	h := New(Options{KnownDir: t.TempDir()})
	for i := range mostKnown + 5 {
		h.remember(fmt.Sprintf("%064d", i), &description{info: &pluginv1.InfoResponse{}, schema: &pluginv1.Block{}})
	}
	files, err := os.ReadDir(h.o.KnownDir)
	if err != nil || len(files) != mostKnown {
		t.Fatalf("%d files, %v", len(files), err)
	}
	if err := h.Close(background(t)); err != nil {
		t.Fatal(err)
	}
}

func acceptAll(context.Context, *Candidate) error { return nil }

// Calls go on while one program after the other takes the place of the one before; none fails.
func TestUpgradeUnderCalls(t *testing.T) {
	h := newRig(t, quick, nil, "good")
	var replaced atomic.Int32
	h.o.Replaced = func(kind, application string) {
		if kind == "good" && application == "" {
			replaced.Add(1)
		}
	}
	ctx := background(t)
	h.Start(ctx, []string{"good"})
	stop, ended := make(chan struct{}), make(chan error, 4)
	for range cap(ended) {
		go func() {
			for {
				if _, err := probe(ctx, h, "good", ""); err != nil {
					ended <- err
					return
				}
				select {
				case <-stop:
					ended <- nil
					return
				default:
				}
			}
		}()
	}
	const upgrades = 12 // more than the restart budget
	for i := range upgrades {
		old := statusOf(t, h, "good").PID
		version := fmt.Sprintf("2.0.%d", i)
		put(t, h, "ors-plugin-good", version)
		if err := h.Upgrade(ctx, "good", acceptAll); err != nil {
			t.Fatal(err)
		}
		if s := statusOf(t, h, "good"); s.State != StateRunning || s.Version != version || s.PID == old || s.Launches != 1 {
			t.Fatalf("status %+v", s)
		}
	}
	close(stop)
	for range cap(ended) {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if replaced.Load() != upgrades {
		t.Errorf("told of %d replacements", replaced.Load())
	}
	same := statusOf(t, h, "good").PID
	if err := h.Upgrade(ctx, "good", acceptAll); err != nil || statusOf(t, h, "good").PID != same {
		t.Errorf("an upgrade to what runs: %v, %+v", err, statusOf(t, h, "good"))
	}
}

func TestFailedUpgradeKeepsTheOldOne(t *testing.T) {
	refusal := errors.New("no such attribute")
	tests := []struct {
		name    string
		pin     Pin
		prepare func(t *testing.T, h *Host)
		accept  error
		code    string
	}{
		{name: "no program", code: CodeStart, prepare: func(t *testing.T, h *Host) {
			if err := errors.Join(os.Remove(h.program("good")), os.WriteFile(h.program("good"), []byte{1}, 0o755)); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "gone", code: CodeMissing, prepare: func(t *testing.T, h *Host) {
			if err := os.Remove(h.program("good")); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "does not fit", code: CodeVersion, pin: Pin{Version: "< 2"}, prepare: func(t *testing.T, h *Host) {
			put(t, h, "ors-plugin-good", "2.0.0")
		}},
		{name: "writable by others", code: CodeMode, prepare: func(t *testing.T, h *Host) {
			put(t, h, "ors-plugin-good", "2.0.0")
			chmod(t, h.program("good"), 0o757)
		}},
		{name: "does not accept the configuration", accept: refusal, prepare: func(t *testing.T, h *Host) {
			put(t, h, "ors-plugin-good", "2.0.0")
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newRig(t, quick, map[string]Pin{"good": tt.pin}, "good")
			ctx := background(t)
			h.Start(ctx, []string{"good"})
			before := statusOf(t, h, "good")
			tt.prepare(t, h)
			err := h.Upgrade(ctx, "good", func(context.Context, *Candidate) error { return tt.accept })
			if err == nil || codeOf(err) != tt.code || tt.accept != nil && !errors.Is(err, tt.accept) {
				t.Errorf("upgrade: %v, wanted %s", err, tt.code)
			}
			if after := statusOf(t, h, "good"); after != before {
				t.Errorf("status %+v, wanted %+v", after, before)
			}
			if answer, err := probe(ctx, h, "good", ""); err != nil || answer != strconv.Itoa(before.PID) {
				t.Errorf("answered by %s, %v", answer, err)
			}
		})
	}
}

// TestWhatWasRefusedDoesNotServe: a program that an upgrade has refused serves neither when the one that does has died nor
// with the next agent, as long as there is another one; an upgrade that accepts it ends that.
func TestWhatWasRefusedDoesNotServe(t *testing.T) {
	h := newRig(t, quick, nil, "good")
	ctx := background(t)
	h.Start(ctx, []string{"good"})
	put(t, h, "ors-plugin-good_2.0.0", "2.0.0")
	refusal := errors.New("it does not accept\nthe configuration")
	if err := h.Upgrade(ctx, "good", func(context.Context, *Candidate) error { return refusal }); !errors.Is(err, refusal) {
		t.Fatal(err)
	}
	old := statusOf(t, h, "good")
	if err := unix.Kill(old.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is started again", func() bool {
		s := statusOf(t, h, "good")
		return s.State == StateRunning && s.PID != old.PID
	})
	if s := statusOf(t, h, "good"); s.Version != "1.2.3" {
		t.Fatalf("after a crash version %s serves", s.Version)
	}
	next := New(h.o) // of the next agent
	next.lim = h.lim
	if info, _, err := next.Describe(ctx, "good"); err != nil || info.GetVersion() != "1.2.3" {
		t.Errorf("with the next agent: %v, %v", info, err)
	}
	all, err := next.Programs(ctx)
	if err != nil || !slices.ContainsFunc(all, func(p Program) bool {
		return p.Version == "2.0.0" && strings.Contains(p.Problem, "does not accept")
	}) {
		t.Errorf("%v, %+v", err, all)
	}
	if err := h.Upgrade(ctx, "good", acceptAll); err != nil || statusOf(t, h, "good").Version != "2.0.0" {
		t.Errorf("upgrade: %v, %+v", err, statusOf(t, h, "good"))
	}
	if info, _, err := next.Describe(ctx, "good"); err == nil && info.GetVersion() == "1.2.3" {
		t.Errorf("with the next agent, after it was accepted: %v", info.GetVersion())
	}
	if err := next.Close(ctx); err != nil {
		t.Error(err)
	}
}

// TestUpgradedInPart: with a process for each application, an upgrade that ends in the midst says so.
func TestUpgradedInPart(t *testing.T) {
	h := newRig(t, quick, map[string]Pin{"good": {Isolate: true}}, "good")
	ctx := background(t)
	for _, name := range []string{"one", "two"} {
		if _, err := h.Probe(ctx, "good", &pluginv1.ProbeRequest{Application: application(name, "", "")}); err != nil {
			t.Fatal(err)
		}
	}
	put(t, h, "ors-plugin-good", "2.0.0")
	asked, refusal := 0, errors.New("not this one")
	err := h.Upgrade(ctx, "good", func(context.Context, *Candidate) error {
		if asked++; asked > 1 {
			return refusal
		}
		return nil
	})
	if !errors.Is(err, ErrPartly) || !errors.Is(err, refusal) {
		t.Errorf("%v", err)
	}
}

// TestWhatWasRefusedServesAlone: where there is no other program, one that was refused is better than none.
func TestWhatWasRefusedServesAlone(t *testing.T) {
	h := newRig(t, quick, nil, "good")
	ctx := background(t)
	c, refused := look("good", h.program("good"))
	if refused != nil {
		t.Fatal(refused)
	}
	h.refuse(c.sum, "it was worse than another one")
	if info, _, err := h.Describe(ctx, "good"); err != nil || info.GetVersion() != "1.2.3" {
		t.Error(err)
	}
}

// An upgrade does not cut a start short.
func TestUpgradeDuringStart(t *testing.T) {
	h := newRig(t, quick, nil, "good")
	h.Start(background(t), []string{"good"})
	mark := filepath.Join(t.TempDir(), "asked")
	ctx, cancel := context.WithCancel(background(t))
	ended := make(chan error, 1)
	go func() {
		q := &pluginv1.StartRequest{Application: application("a", "hang once", mark)}
		_, err := h.StartApplication(ctx, "good", q, nil)
		ended <- err
	}()
	eventually(t, "the plugin has the call", func() bool { _, err := os.Stat(mark); return err == nil })
	put(t, h, "ors-plugin-good", "2.0.0")
	old := statusOf(t, h, "good")
	if err := h.Upgrade(background(t), "good", acceptAll); codeOf(err) != CodeBusy {
		t.Errorf("upgrade during a start: %v", err)
	}
	if s := statusOf(t, h, "good"); s != old {
		t.Errorf("status %+v", s)
	}
	cancel()
	<-ended
	if err := h.Upgrade(background(t), "good", acceptAll); err != nil || statusOf(t, h, "good").Version != "2.0.0" {
		t.Errorf("upgrade after it: %v, %+v", err, statusOf(t, h, "good"))
	}
}

// What could not run before an upgrade runs after it, without waiting for the next look.
func TestUpgradeOfWhatDoesNotRun(t *testing.T) {
	h := newRig(t, quick, map[string]Pin{"good": {Version: ">= 2"}}, "good")
	h.Start(background(t), []string{"good"})
	if s := statusOf(t, h, "good"); s.State != StateRefused {
		t.Fatalf("status %+v", s)
	}
	put(t, h, "ors-plugin-good_2.1.0", "2.1.0")
	if err := h.Upgrade(background(t), "good", acceptAll); err != nil {
		t.Fatal(err)
	}
	if s := statusOf(t, h, "good"); s.State != StateRunning || s.Version != "2.1.0" {
		t.Errorf("status %+v", s)
	}
	if err := h.Upgrade(background(t), "other", acceptAll); codeOf(err) != CodeMissing {
		t.Errorf("upgrade of a kind that is not configured: %v", err)
	}
}

// A plugin that keeps a processor busy and answers nothing is noticed and replaced; others stay.
func TestSpinningPlugin(t *testing.T) {
	lim := quick
	lim.healthEvery = 50 * time.Millisecond
	h := newRig(t, lim, nil, "spin", "good")
	h.Start(background(t), []string{"spin", "good"})
	old, other := statusOf(t, h, "spin"), statusOf(t, h, "good")
	if old.State != StateRunning || other.State != StateRunning {
		t.Fatalf("%+v, %+v", old, other)
	}
	_, err := probe(within(t, time.Second), h, "spin", "spin")
	if code := codeOf(err); code != CodeHung && code != CodeCall {
		t.Fatalf("a call that spins: %v", err)
	}
	eventually(t, "another process runs", func() bool {
		s := statusOf(t, h, "spin")
		return s.State == StateRunning && s.PID != old.PID
	})
	if err := unix.Kill(old.PID, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("the one that spins is still there: %v", err)
	}
	if s := statusOf(t, h, "good"); s != other {
		t.Errorf("the other one: %+v, it was %+v", s, other)
	}
}
